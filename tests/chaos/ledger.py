"""What a run has acknowledged, seen from outside: rows at or before the last checkpoint of a stage, read now and then."""
import sqlite3

# What depends on the run and not on the trial.
UNSTABLE = ("time/", "memory/", "timing/")  # and every rate, "..._per_s"

POINTS = ("SELECT s.name, s.layer, s.definition_version, m.step, m.value FROM series s JOIN measurement m ON m.series_id = s.id "
          "WHERE s.stage_id = ? AND m.step <= ?")
DOCUMENTS = "SELECT split, document, nll, tokens, bytes FROM document_score WHERE stage_id = ?"
RECORDS = "SELECT kind, name, idx, step, data_json FROM record WHERE stage_id = ? AND step <= ?"
LAST = 1 << 60


def stage_rows(db, stage, through, whole):
    """{row's name: value} of a stage up to a step; with its document scores when it is over."""
    rows = {("point",) + r[:4]: r[4] for r in db.execute(POINTS, (stage, through))}
    rows.update({("record",) + r[:3]: r[3:] for r in db.execute(RECORDS, (stage, through))})
    if whole:
        rows.update({("document",) + r[:2]: r[2:] for r in db.execute(DOCUMENTS, (stage,))})
    return rows


def is_stable(row):
    return row[0] != "point" or not (row[1].startswith(UNSTABLE) or row[1].endswith("_per_s"))


class Ledger:
    def __init__(self, cluster):
        self.cluster = cluster
        self.rows = {}   # (trial key, stage name) -> {row: value}
        self.final = set()
        self.samples, self.wrong = 0, []
        self.may_restart, self.restarted = set(), 0

    def count(self):
        return sum(map(len, self.rows.values()))

    def sample(self, everything=False):
        """Looks once. Every row seen before must be there with the same value. False: the database could not be read."""
        try:
            db = self.cluster.connect()
            try:
                db.execute("BEGIN")
                stages = db.execute("SELECT t.key, g.name, g.id, g.state, g.checkpoint_step FROM stage g JOIN trial t "
                                    "ON t.id = g.trial_id").fetchall()
                gone = {stage for stage, in db.execute("SELECT DISTINCT stage_id FROM event WHERE kind = 'checkpoint_gone'")}
                seen = set()
                for key, name, stage, state, checkpoint in stages:
                    which, over = (key, name), state == "succeeded"
                    seen.add(which)
                    if which in self.final and not over:
                        self.wrong.append(f"{which} had succeeded and is {state}")
                    if which in self.may_restart and stage in gone:
                        self.may_restart.discard(which)
                        self.rows.pop(which, None)
                        self.restarted += 1
                    if over and which in self.final and not everything:
                        continue
                    now = stage_rows(db, stage, LAST if over else checkpoint, over)
                    for row, value in self.rows.get(which, {}).items():
                        if row not in now:
                            self.wrong.append(f"acknowledged and gone: {which} {row} = {value}")
                        elif now[row] != value:
                            self.wrong.append(f"acknowledged and changed: {which} {row}: {value}, now {now[row]}")
                    self.rows[which] = now
                    if over:
                        self.final.add(which)
                for which in set(self.rows) - seen:
                    self.wrong.append(f"acknowledged and gone: all of {which}")
            finally:
                db.close()
        except sqlite3.OperationalError:
            return False
        self.samples += 1
        return True

    def copy(self):
        return {k: dict(v) for k, v in self.rows.items()}, set(self.final)

    def go_back(self, copy):
        """The database is an older copy from here on: what came later may be gone, and a stage that ran at the copy's time begins
        again where later checkpoints have replaced the one it knows."""
        self.rows, self.final = {k: dict(v) for k, v in copy[0].items()}, set(copy[1])
        self.may_restart = set(self.rows) - self.final


def results(cluster):
    """({(trial key, stage): {row: value}}, {(trial key, stage): state}); unstable values as None."""
    db = cluster.connect()
    try:
        found, states = {}, {}
        for key, name, stage, state in db.execute("SELECT t.key, g.name, g.id, g.state FROM stage g JOIN trial t ON t.id = g.trial_id"
                                                  ).fetchall():
            rows = stage_rows(db, stage, LAST, True)
            found[key, name] = {row: value if is_stable(row) else None for row, value in rows.items()}
            states[key, name] = state
        return found, states
    finally:
        db.close()


def differences(calm, fire, most=8):
    """What differs between the results of two runs, in words."""
    out = []
    for which in sorted(set(calm) | set(fire)):
        a, b = calm.get(which, {}), fire.get(which, {})
        for row in sorted(set(a) | set(b), key=str):
            if row not in a or row not in b or a[row] != b[row]:
                out.append(f"{which} {row}: undisturbed {a.get(row, 'nothing')}, under fire {b.get(row, 'nothing')}")
                if len(out) >= most:
                    return out
    return out
