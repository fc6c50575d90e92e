#include "sweeps/yaml_reader.h"

#include <chrono>

#include "gtest/gtest.h"

namespace plumb::sweeps {
namespace {

// The messages, without the source lines and carets.
std::string Messages(const std::string& text) {
  std::vector<Problem> problems;
  ReadYaml(text, &problems);
  std::string out;
  for (const Problem& p : problems) {
    out += std::to_string(p.at.line) + ":" + std::to_string(p.at.column) + " " + p.message + "\n";
  }
  return out;
}

TEST(YamlReader, KeepsThePlaceOfKeysAndValues) {
  std::vector<Problem> problems;
  const auto root = ReadYaml("a: 1\nb:\n  - x\n  - {c: \"2\"}\n[d, e]: [f]\n", &problems);
  ASSERT_TRUE(root && problems.empty());
  EXPECT_EQ(root->Find("a")->value.at, (Position{1, 4}));
  EXPECT_EQ(root->Find("b")->key.at, (Position{2, 1}));
  const YamlNode& list = root->Find("b")->value;
  EXPECT_EQ(list.items[0].at, (Position{3, 5}));
  EXPECT_EQ(list.items[1].Find("c")->value.at, (Position{4, 9}));
  EXPECT_TRUE(list.items[1].Find("c")->value.quoted);
  EXPECT_FALSE(list.items[0].quoted);
  EXPECT_EQ(root->entries[2].key.items[1].text, "e");
}

TEST(YamlReader, ColumnsCountCharacters) {
  EXPECT_EQ(Messages("\"\u6df1\u3055\": yes\n").substr(0, 4), "1:7 ");
}

TEST(YamlReader, RefusesWhatReadersDisagreeAbout) {
  EXPECT_EQ(
      Messages("a: yes\nb: Off\nc: True\nd: 017\ne: \"no\"\nf: 0\ng: 0.5\nh: -00\n"),
      "1:4 \"yes\" is a boolean to some YAML readers and a word to others; write true, or put it "
      "in quotes\n"
      "2:4 \"Off\" is a boolean to some YAML readers and a word to others; write false, or put it "
      "in quotes\n"
      "3:4 write true, in lower case\n"
      "4:4 a leading zero makes \"017\" octal to some YAML readers; write 17, or put it in quotes\n"
      "8:4 a leading zero makes \"-00\" octal to some YAML readers; write 0, or put it in "
      "quotes\n");
}

TEST(YamlReader, NamesBothPlacesOfADuplicate) {
  EXPECT_EQ(Messages("a: 1\nb: {c: 1, c: 2}\na: 3\n"),
            "2:11 \"c\" is given twice; the first is at line 2, column 5\n"
            "3:1 \"a\" is given twice; the first is at line 1, column 1\n");
}

TEST(YamlReader, RefusesAnchorsAliasesMergeKeysAndTags) {
  EXPECT_EQ(Messages("a: &x 1\n"),
            "1:4 anchors (&x) are not supported; write the value out where it is used\n");
  EXPECT_EQ(Messages("a: &x 1\nb: *x\n"),
            "1:4 anchors (&x) are not supported; write the value out where it is used\n"
            "2:4 aliases (*name) are not supported; write the value out\n");
  EXPECT_EQ(Messages("<<: {a: 1}\n"),
            "1:1 merge keys (<<) are not supported; write the keys out\n");
  EXPECT_EQ(Messages("a: !!str 1\nb: ! 2\nc: !x [1]\n"),
            "1:4 tags are not supported; leave it out (quotes make a value a string)\n"
            "2:4 tags are not supported; leave it out (quotes make a value a string)\n"
            "3:4 tags are not supported; leave it out (quotes make a value a string)\n");
}

TEST(YamlReader, RefusesABombOfAliasesAtOnce) {
  std::string bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n";
  for (int i = 1; i < 30; ++i) {
    const std::string n = std::to_string(i), before = "*a" + std::to_string(i - 1);
    bomb += "a" + n + ": &a" + n + " [" + before + ", " + before + ", " + before + "]\n";
  }
  EXPECT_NE(Messages(bomb).find("anchors"), std::string::npos);
}

TEST(YamlReader, RefusesASecondDocument) {
  EXPECT_EQ(Messages("---\na: 1\n---\nb: 2\n"),
            "3:1 a second document starts here; put each sweep into a file of its own\n");
}

TEST(YamlReader, RefusesTabsDepthSizeAndOtherEncodings) {
  EXPECT_EQ(Messages("a:\n\tb: 1\n"), "2:1 a tab in the indentation; use spaces\n");
  EXPECT_EQ(Messages(std::string(65, '[') + std::string(65, ']')),
            "1:65 nested deeper than 64 levels\n");
  EXPECT_EQ(Messages(std::string(64, '[') + std::string(64, ']')), "");
  EXPECT_EQ(Messages(std::string((1 << 20) + 1, ' ')),
            "1:1 the file is larger than 1 MiB; a sweep file is a few dozen lines\n");
  EXPECT_EQ(Messages("a: 1\nb: \xff\n"), "2:4 not UTF-8; save the file as UTF-8\n");
  EXPECT_EQ(Messages(std::string("a: \0b", 5)), "1:4 a NUL byte; is this a text file?\n");
  EXPECT_EQ(Messages(""), "1:1 the file is empty; see docs/sweep-file.md for an example\n");
  EXPECT_EQ(Messages("\xEF\xBB\xBF"
                     "a: no\n")
                .substr(0, 4),
            "1:4 ");  // a byte-order mark is harmless
}

TEST(YamlReader, SaysWhereTheSyntaxBreaks) {
  EXPECT_EQ(Messages("a: [1, 2\nb: 3\n").substr(0, 12), "2:2 not YAML");
  EXPECT_EQ(Messages("a: {b: 1\n").find("not YAML") != std::string::npos, true);
}

TEST(YamlReader, HostileTextIsReadInBoundedTime) {
  const auto start = std::chrono::steady_clock::now();
  const int n = 1 << 20;
  std::string pairs, quotes;
  while (pairs.size() + 8 < static_cast<size_t>(n)) pairs += "{a: ", quotes += "? ";
  for (const std::string& text :
       {std::string(n, '['), std::string(n, '{'), std::string(n, '-'), std::string(n, '"'), pairs,
        quotes, std::string(n, '&'), std::string(n, '\n')}) {
    std::vector<Problem> problems;
    ReadYaml(text, &problems);
  }
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(10));
}

TEST(Problems, AreShownSortedWithACaretAndOncePerPlace) {
  const std::string source = "first: 1\n  s\u00e9cond: 2\n";
  EXPECT_EQ(FormatProblems({{{2, 11}, "late"}, {{1, 8}, "early"}, {{2, 11}, "follows from late"}},
                           "x.yaml", source),
            "x.yaml:1:8: early\n"
            "  first: 1\n"
            "         ^\n"
            "x.yaml:2:11: late\n"
            "    s\u00e9cond: 2\n"
            "            ^");
}

}  // namespace
}  // namespace plumb::sweeps
