#include "data/sources.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <zlib.h>

#include "data/manual_page.h"
#include "tests/data/texts.h"

namespace plumb::data {
namespace {

using testing::HasSubstr;

std::string ErrorOf(const std::function<void()>& call) {
  try {
    call();
  } catch (const DataError& e) {
    return e.what();
  }
  return "";
}

TEST(ReadText, FoldersGiveADocumentAFileAndHiddenOnesAreLeftOut) {
  TempDir dir;
  Write(dir / "c/a.txt", "alpha\n");
  Write(dir / "c/deep/b.md", "beta");
  Write(dir / "c/blank.txt", " \n");
  Write(dir / "c/.hidden", "no");
  Write(dir / "c/.git/config", "no");
  const Collection c = ReadText({dir / "c"});
  ASSERT_EQ(c.documents.size(), 2u);
  EXPECT_EQ(c.documents[0].text, "alpha\n");
  EXPECT_EQ(c.documents[1].text, "beta");
}

TEST(ReadText, JsonLinesGiveADocumentALine) {
  TempDir dir;
  Write(dir / "a.jsonl", "{\"text\": \"one\", \"id\": 1}\n\n{\"text\": \"two\\n\"}\n");
  const Collection c = ReadText({dir / "a.jsonl"});
  ASSERT_EQ(c.documents.size(), 2u);
  EXPECT_EQ(c.documents[1].text, "two\n");
  Write(dir / "a.jsonl", "{\"text\": \"one\"}\n{\"txt\": \"two\"}\n");
  EXPECT_THAT(ErrorOf([&] { ReadText({dir / "a.jsonl"}); }), HasSubstr("a.jsonl:2"));
  Write(dir / "a.jsonl", "{\"text\": \"a\\u0000b\"}\n");
  EXPECT_THAT(ErrorOf([&] { ReadText({dir / "a.jsonl"}); }), HasSubstr("NUL"));
}

TEST(ReadText, RefusesWhatIsNotTextAndSaysWhatToDo) {
  TempDir dir;
  Write(dir / "nul.txt", std::string("a\0b", 3));
  Write(dir / "latin1.txt", "caf\xE9");
  EXPECT_THAT(ErrorOf([&] { ReadText({dir / "nul.txt"}); }), HasSubstr("NUL"));
  EXPECT_THAT(ErrorOf([&] { ReadText({dir / "latin1.txt"}); }), HasSubstr("iconv"));
  EXPECT_THAT(ErrorOf([&] { ReadText({dir / "none.txt"}); }), HasSubstr("no such file"));
}

TEST(ReadPackages, MissingPackageNamesTheCommand) {
  TempDir root;
  EXPECT_THAT(ErrorOf([&] { ReadPackages(PackageCorpora()[0], root.path()); }),
              HasSubstr("apt-get install -y --no-install-recommends python3.11-doc"));
}

TEST(ReadPackages, TakesThePackagesOwnFilesAndVersion) {
  TempDir root;
  const std::string folder = "/usr/share/doc/python3.11/html/_sources/";
  Write(root / "var/lib/dpkg/status",
        "Package: other\nVersion: 9\n\nPackage: python3.11-doc\nStatus: install ok "
        "installed\nVersion: 3.11.2-6\n");
  Write(root / "var/lib/dpkg/info/python3.11-doc.list",
        folder + "a.rst.txt\n" + folder + "bad.rst.txt\n" + folder + "b.html\n");
  EXPECT_THAT(ErrorOf([&] { ReadPackages(PackageCorpora()[0], root.path()); }),
              HasSubstr("path-exclude"));
  Write(root.path() + folder + "a.rst.txt", "text");
  Write(root.path() + folder + "bad.rst.txt", "\xFF");
  Write(root.path() + folder + "b.html", "html");
  Write(root.path() + folder + "local.rst.txt", "not the package's");
  const Collection c = ReadPackages(PackageCorpora()[0], root.path());
  ASSERT_EQ(c.documents.size(), 1u);
  EXPECT_EQ(c.documents[0].text, "text");
  EXPECT_EQ(c.unreadable, 1);
  ASSERT_EQ(c.sources.size(), 1u);
  EXPECT_EQ(c.sources[0].version, "3.11.2-6");
}

TEST(ManualPage, KeepsJapaneseLinesWithoutGroff) {
  EXPECT_EQ(JapaneseText(".\\\" 日本語の注釈\n"
                         ".TH LS 1 \"2020\" \"日本語\" \"日本語\"\n"
                         ".SH 名前\n"
                         "ls \\- ディレクトリの内容を\\fB一覧\\fR表示する\n"
                         "English only line\n"
                         ".SH \"書 式\"\n"
                         ".BR オプション (7)\n"
                         "\\(bu 引\\*数\\s-1を\\s+1取る\\\" 注釈\n"),
            "名前\n"
            "ls - ディレクトリの内容を一覧表示する\n"
            "\n"
            "書 式\n"
            "オプション(7)\n"
            "* 引数を取る\n");
  EXPECT_EQ(JapaneseText(".so man1/ls.1\n"), "");
}

TEST(ManualPage, EscapesNeverCutACharacter) {
  EXPECT_EQ(JapaneseText("あ\\いう\\fえお\n"), "あいうえお\n");
}

TEST(ManualPage, TruncatedGzipIsRefused) {
  TempDir dir;
  const std::string path = dir / "a.gz";
  gzFile out = gzopen(path.c_str(), "wb");
  const std::string text = Words(500, 1);
  gzwrite(out, text.data(), static_cast<unsigned>(text.size()));
  gzclose(out);
  EXPECT_EQ(ReadGzip(path), text);
  const std::string whole = Read(path);
  Write(path, whole.substr(0, whole.size() / 2));
  EXPECT_THROW(ReadGzip(path), DataError);
}

}  // namespace
}  // namespace plumb::data
