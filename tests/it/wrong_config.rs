//! Wrong configurations, each with the exact words that a user reads.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use hydrant::config::{Environment, Flags, load, load_text, settings};
use hydrant::transform::wasm::Modules;

/// A pipeline that is right; tests make it wrong.
const RIGHT: &str = "\
source:
  firehose: { stream: clickstream }
format:
  parquet:
    compression: zstd
    schema:
      event_time: timestamp(ms)
buffer: { size: 128 MiB, interval: 60s }
sink:
  object_store:
    url: ./data/lake
    prefix: \"dt={event_time:%Y-%m-%d}/\"
";

fn no_variables() -> Environment {
    Environment::of([])
}

fn wrong(text: &str) -> String {
    load_text("x", "x.yaml", text, &no_variables()).unwrap_err().to_string()
}

/// What is said when one line of a right pipeline is replaced.
fn with(line: &str, replaced: &str) -> String {
    assert!(RIGHT.contains(line), "{line:?} is not in the right pipeline");
    wrong(&RIGHT.replacen(line, replaced, 1))
}

fn one(problem: &str) -> String {
    format!("{problem}\n\n1 problem")
}

/// A folder with files, removed when dropped.
fn folder(files: &[(&str, &[u8])]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, bytes) in files {
        fs::create_dir_all(folder.path().join(name).parent().unwrap()).unwrap();
        fs::write(folder.path().join(name), bytes).unwrap();
    }
    folder
}

/// What is said about paths; the folder stands as `DIR` in it.
fn wrong_paths(folder: &Path, names: &[&str]) -> String {
    let paths: Vec<PathBuf> = names.iter().map(|name| folder.join(name)).collect();
    let problems = load(&paths, None, &no_variables(), &Modules::default()).unwrap_err().to_string();
    problems.replace(folder.to_str().unwrap(), "DIR")
}

#[test]
fn a_right_pipeline_is_right() {
    let spec = load_text("x", "x.yaml", RIGHT, &no_variables()).unwrap();
    assert_eq!(spec.to_string(), "x: firehose clickstream -> parquet -> ./data/lake");
    assert_eq!(spec.limits.size_bytes, 128 << 20);
}

#[test]
fn a_misspelt_key_is_told_the_right_one() {
    let expected = "\
x.yaml:5:5: unknown key `compresion` in `format.parquet`
  5 |     compresion: zstd
    |     ^^^^^^^^^^
  hint: did you mean `compression`?";
    assert_eq!(with("compression: zstd", "compresion: zstd"), one(expected));
}

#[test]
fn a_key_that_nobody_meant_is_told_what_there_is() {
    let expected = "\
x.yaml:8:11: unknown key `colour` in `buffer`
  8 | buffer: { colour: red, size: 128 MiB, interval: 60s }
    |           ^^^^^^
  hint: the keys here are `size`, `interval`";
    assert_eq!(with("buffer: { size", "buffer: { colour: red, size"), one(expected));
}

#[test]
fn what_stands_below_a_misspelt_key_is_read_as_well() {
    let expected = "\
x.yaml:8:1: unknown key `bufer`
  8 | bufer: { size: 128 MiBs, interval: 60s }
    | ^^^^^
  hint: did you mean `buffer`?

x.yaml:8:16: `buffer.size`: expected a size such as `128 MiB`, found `128 MiBs`
  8 | bufer: { size: 128 MiBs, interval: 60s }
    |                ^^^^^^^^
  hint: did you mean `128 MiB`?

2 problems";
    assert_eq!(with("buffer: { size: 128 MiB", "bufer: { size: 128 MiBs"), expected);
}

#[test]
fn a_wrong_unit_is_told_the_right_one() {
    let expected = "\
x.yaml:8:36: `buffer.interval`: expected an interval such as `60s`, found `60`
  8 | buffer: { size: 128 MiB, interval: 60 }
    |                                    ^^
  hint: write `60s`";
    assert_eq!(with("interval: 60s", "interval: 60"), one(expected));
}

#[test]
fn a_wrong_type_is_told_what_was_expected() {
    let expected = "\
x.yaml:8:11: `buffer.size`: expected a size such as `128 MiB`, found a list
  8 | buffer: { size: [128 MiB], interval: 60s }
    |           ^^^^";
    assert_eq!(with("size: 128 MiB", "size: [128 MiB]"), one(expected));
    let expected = "\
x.yaml:9:1: `sink`: expected one of `object_store`, found a list
  9 | sink: []
    | ^^^^";
    let text = RIGHT.split("sink:").next().unwrap().to_owned() + "sink: []\n";
    assert_eq!(wrong(&text), one(expected));
}

#[test]
fn every_missing_key_is_told() {
    let expected = "\
x.yaml:1:1: missing key `format`
  1 | source:
    | ^

x.yaml:1:1: missing key `sink`
  1 | source:
    | ^

x.yaml:2:3: missing key `stream` in `source.firehose`
  2 |   firehose: {}
    |   ^^^^^^^^

3 problems";
    assert_eq!(wrong("source:\n  firehose: {}\n"), expected);
}

#[test]
fn a_duplicate_key_is_told_with_both_places() {
    let expected = "\
x.yaml:6:5: the key `compression` stands here twice, first in line 5
  6 |     compression: gzip
    |     ^^^^^^^^^^^
  hint: remove one of them";
    assert_eq!(with("compression: zstd", "compression: zstd\n    compression: gzip"), one(expected));
}

#[test]
fn tabs_are_told_kindly() {
    let expected = "\
x.yaml:2:1: a tab indents this line, where YAML allows only spaces
  2 |  firehose: { stream: clickstream }
    | ^
  hint: use two spaces for each level";
    assert_eq!(with("  firehose", "\tfirehose"), one(expected));
    let expected = "\
x.yaml:5:3: a tab indents this line, where YAML allows only spaces
  5 |    compression: zstd
    |   ^
  hint: use two spaces for each level";
    assert_eq!(with("    compression", "  \tcompression"), one(expected));
}

#[test]
fn an_alias_bomb_is_refused_before_it_grows() {
    let mut bomb = "a0: &a0 [x, x]\n".to_owned();
    for level in 1..=40 {
        bomb += &format!("a{level}: &a{level} [*a{0}, *a{0}, *a{0}, *a{0}]\n", level - 1);
    }
    let said = wrong(&bomb);
    let first = "\
x.yaml:1:5: YAML anchors are not supported, found `&a0`
  1 | a0: &a0 [x, x]
    |     ^^^
  hint: write the value out, or put a text into quotes
";
    assert!(said.contains(first), "{said}");
    assert_eq!(said.matches("anchors are not supported").count(), 41);
}

#[test]
fn a_nesting_bomb_is_refused_before_it_overflows_the_stack() {
    for bomb in ["[".repeat(200_000), "{a: ".repeat(200_000), "- ".repeat(200_000)] {
        let said = wrong(&bomb);
        assert!(said.starts_with("x.yaml:1:"), "{said}");
        assert!(said.contains(": nested deeper than 64 levels\n"), "{said}");
        assert!(said.ends_with("\n\n1 problem"), "{said}");
        assert!(said.len() < 1000, "{said}");
    }
    let expected = "\
x.yaml:1:65: nested deeper than 64 levels
  1 | …[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[…
    |                                                    ^";
    assert_eq!(wrong(&"[".repeat(200_000)), one(expected));
}

#[test]
fn two_problems_are_both_told_in_the_order_of_the_file() {
    let text = RIGHT.replace("zstd", "zsdt").replace("dt={event_time:%Y", "dt={event_time:%Q");
    let expected = "\
x.yaml:5:18: `format.parquet.compression`: unknown compression `zsdt`, expected one of zstd, snappy, gzip, lz4, none
  5 |     compression: zsdt
    |                  ^^^^
  hint: did you mean `zstd`?

x.yaml:12:";
    let said = wrong(&text);
    assert!(said.starts_with(expected), "{said}");
    assert!(said.ends_with("\n\n2 problems"), "{said}");
}

#[test]
fn an_unknown_source_is_told_the_nearest_also_if_it_is_to_come() {
    let expected = "\
x.yaml:2:3: `source`: expected exactly one of `demo`, `file`, `kafka`, `firehose`, `http`, `stdin`, found `kinesi`
  2 |   kinesi: { stream: clicks }
    |   ^^^^^^
  hint: did you mean `kinesis`? it comes with a later version";
    assert_eq!(with("firehose: { stream: clickstream }", "kinesi: { stream: clicks }"), one(expected));
    let expected = expected.replace("kinesi: ", "kinesis: ").replace("found `kinesi`", "found `kinesis`");
    let expected = expected.replace("^^^^^^", "^^^^^^^").replace("did you mean `kinesis`? it comes", "`kinesis` comes");
    assert_eq!(with("firehose: { stream: clickstream }", "kinesis: { stream: clicks }"), one(&expected));
}

#[test]
fn what_stands_below_an_unknown_source_is_read_as_that_of_the_nearest() {
    let expected = "\
x.yaml:2:3: `source`: expected exactly one of `demo`, `file`, `kafka`, `firehose`, `http`, `stdin`, found `kafak`
  2 |   kafak: { topic: clicks }
    |   ^^^^^
  hint: did you mean `kafka`?

x.yaml:2:3: missing key `brokers` in `source.kafka`
  2 |   kafak: { topic: clicks }
    |   ^^^^^

x.yaml:2:12: unknown key `topic` in `source.kafka`
  2 |   kafak: { topic: clicks }
    |            ^^^^^
  hint: did you mean `topics`?

3 problems";
    assert_eq!(with("firehose: { stream: clickstream }", "kafak: { topic: clicks }"), expected);
}

#[test]
fn two_sources_are_one_too_many() {
    let expected = "\
x.yaml:3:3: `source`: expected exactly one of `demo`, `file`, `kafka`, `firehose`, `http`, `stdin`, found `firehose` and `demo`
  3 |   demo: {}
    |   ^^^^";
    assert_eq!(with("clickstream }", "clickstream }\n  demo: {}"), one(expected));
}

#[test]
fn an_empty_file_is_told() {
    let expected = "x.yaml:1:1: the file is empty\n  1 | \n    | ^";
    assert_eq!(wrong(""), one(expected));
    assert_eq!(wrong("# only a comment\n"), one(&expected.replace("1 | ", "1 | # only a comment")));
}

#[test]
fn a_file_that_is_no_map_is_told() {
    let keys = "`source`, `transforms`, `format`, `buffer`, `sink`, `errors`, `spool`";
    let expected = format!("x.yaml:1:1: expected a map of {keys}, found `hello`\n  1 | hello\n    | ^^^^^");
    assert_eq!(wrong("hello\n"), one(&expected));
    let expected = format!("x.yaml:1:1: expected a map of {keys}, found a list\n  1 | - source\n    | ^");
    assert_eq!(wrong("- source\n"), one(&expected));
}

#[test]
fn bytes_that_are_no_text_are_told_with_their_place() {
    let folder = folder(&[("x.yaml", b"source:\n  demo: \xff\xfe\n"), ("nul.yaml", b"source: a\0b\n")]);
    let expected = "\
DIR/x.yaml:2:9: the text is not valid UTF-8 from here on
  2 |   demo: \u{fffd}\u{fffd}
    |         ^
  hint: save the file as UTF-8";
    assert_eq!(wrong_paths(folder.path(), &["x.yaml"]), one(expected));
    let expected = "\
DIR/nul.yaml:1:10: a NUL byte stands in the text
  1 | source: a\u{fffd}b
    |          ^";
    assert_eq!(wrong_paths(folder.path(), &["nul.yaml"]), one(expected));
}

#[test]
fn an_unset_variable_is_told_and_a_set_one_never_shown() {
    let expected = "\
x.yaml:11:12: the environment variable `LAKE` is not set
  11 |     url: s3${LAKE}
     |            ^^^^^^^
  hint: set it, or write `${LAKE:-default}`";
    assert_eq!(with("./data/lake", "s3${LAKE}"), one(expected));

    let environment = Environment::of([("SIZE", "hunter2"), ("LAKE", "ftp://hunter3/x"), ("KEY", "hunter4")]);
    let text = RIGHT.replace("128 MiB", "'${SIZE}'").replace("./data/lake", "${LAKE}").replace(
        "prefix:",
        "options: { secret_access_key: hunter5, region: [hunter6], token: \"env:KEY\" }\n    prefix:",
    );
    let said = load_text("x", "x.yaml", &text, &environment).unwrap_err().to_string();
    let expected = "\
x.yaml:8:17: `buffer.size`: expected a size such as `128 MiB`, found something else, which is not shown as it may be secret
  8 | buffer: { size: '${SIZE}', interval: 60s }
    |                 ^^^^^^^^^
";
    assert!(said.starts_with(expected), "{said}");
    for secret in ["hunter2", "hunter3", "hunter4", "hunter5"] {
        assert!(!said.contains(secret), "{secret} in {said}");
    }
}

#[test]
fn a_variable_gives_a_value_and_never_structure() {
    let text =
        RIGHT.replace("{ size: 128 MiB, interval: 60s }", "\n  size: ${SIZE}").replace("./data/lake", "\"${LAKE}\"");
    let environment = Environment::of([("SIZE", "1000000"), ("LAKE", "./a: {b}\n- c")]);
    let spec = load_text("x", "x.yaml", &text, &environment).unwrap();
    assert_eq!((spec.limits.size_bytes, spec.sink.url.as_str()), (1_000_000, "./a: {b}\n- c"));
    assert_eq!(spec.to_string(), "x: firehose clickstream -> parquet -> ${LAKE}");
}

#[test]
fn files_and_folders_that_are_not_there_are_told_and_those_that_hold_nothing_yet_are_waited_for() {
    let folder = folder(&[("empty/readme.md", b""), ("settings/hydrant.yaml", b""), ("hidden/.x.yaml", b"")]);
    assert_eq!(
        wrong_paths(folder.path(), &["none.yaml", "empty"]),
        "DIR/none.yaml: there is no such file or folder\n\n1 problem"
    );
    let paths = ["empty", "settings", "hidden"].map(|name| folder.path().join(name));
    let loaded = load(&paths, None, &no_variables(), &Modules::default()).unwrap();
    assert!(loaded.pipelines.is_empty());
    let said = loaded.warnings.to_string().replace(folder.path().to_str().unwrap(), "DIR");
    let hint = "\n  hint: a pipeline is a file `NAME.yaml` or `NAME.yml`\n\n";
    let nothing = |name: &str| format!("DIR/{name}: warning: no pipelines yet: the folder holds none{hint}");
    let (empty, hidden, settings) = (nothing("empty"), nothing("hidden"), nothing("settings"));
    let unread =
        "DIR/settings/hydrant.yaml: warning: not read, as it is no pipeline\n  hint: pass it with `--config`\n\n";
    assert_eq!(said, format!("{empty}{hidden}{settings}{unread}4 warnings"));
}

#[test]
fn settings_that_lie_among_the_pipelines_are_not_skipped_without_a_word() {
    let folder = folder(&[("x.yaml", RIGHT.as_bytes()), ("hydrant.yaml", b"listen: 0.0.0.0:4573")]);
    let paths = [folder.path().to_owned()];
    let loaded = load(&paths, None, &no_variables(), &Modules::default()).unwrap();
    assert_eq!(loaded.pipelines.len(), 1);
    let said = loaded.warnings.to_string().replace(folder.path().to_str().unwrap(), "DIR");
    assert_eq!(
        said,
        "DIR/hydrant.yaml: warning: not read, as it is no pipeline\n  hint: pass it with `--config`\n\n1 warning"
    );
    let settings_file = folder.path().join("./hydrant.yaml");
    assert!(
        load(&paths, Some(&settings_file), &no_variables(), &Modules::default()).unwrap().warnings.is_empty(),
        "it was passed"
    );
}

#[test]
fn two_pipelines_of_one_name_are_told_with_both_files() {
    let folder = folder(&[("a/x.yaml", RIGHT.as_bytes()), ("b/x.yml", RIGHT.as_bytes()), ("-x.yaml", b"")]);
    let expected = "\
DIR/-x.yaml: `-x` is no name for a pipeline
  hint: a pipeline is named after its file: 1 to 64 of `a-z A-Z 0-9 _ . -`, first a letter or digit

DIR/b/x.yml: the pipeline `x` is there twice, first as DIR/a/x.yaml
  hint: a pipeline is named after its file: rename one of them

2 problems";
    assert_eq!(wrong_paths(folder.path(), &["a", "b", "-x.yaml"]), expected);
}

#[test]
fn a_wrong_word_of_a_choice_is_told_the_nearest() {
    let expected = "\
x.yaml:5:17: `format.parquet.on_unknown`: expected one of `keep`, `drop`, `reject`, found `kep`
  5 |     on_unknown: kep
    |                 ^^^
  hint: did you mean `keep`?";
    assert_eq!(with("compression: zstd", "on_unknown: kep"), one(expected));
}

#[test]
fn numbers_that_are_too_large_are_told_the_bounds() {
    let demo = |options: &str| with("firehose: { stream: clickstream }", &format!("demo: {{ {options} }}"));
    let expected = "\
x.yaml:2:20: `source.demo.records`: expected a whole number from 0 to 18446744073709551615, found `99999999999999999999`
  2 |   demo: { records: 99999999999999999999 }
    |                    ^^^^^^^^^^^^^^^^^^^^";
    assert_eq!(demo("records: 99999999999999999999"), one(expected));
    let expected = "\
x.yaml:8:17: `buffer.size`: expected 1 KiB to 1 GiB, found 6 GiB
  8 | buffer: { size: 6 GiB, interval: 60s }
    |                 ^^^^^";
    assert_eq!(with("128 MiB", "6 GiB"), one(expected));
    let expected = "\
x.yaml:8:36: `buffer.interval`: expected 100ms to 24h, found 25h
  8 | buffer: { size: 128 MiB, interval: 25h }
    |                                    ^^^";
    assert_eq!(with("60s", "25h"), one(expected));
}

#[test]
fn yaml_beyond_what_a_pipeline_needs_is_refused() {
    let expected = "\
x.yaml:8:17: YAML tags are not supported, found `!env`
  8 | buffer: { size: !env SIZE, interval: 60s }
    |                 ^^^^
  hint: remove it, or put a text that begins with `!` into quotes";
    assert_eq!(with("128 MiB", "!env SIZE"), one(expected));
    let expected = "\
x.yaml:8:11: YAML merge keys (`<<`) are not supported
  8 | buffer: { <<: {x: y}, size: 128 MiB, interval: 60s }
    |           ^^
  hint: write its keys out";
    assert_eq!(with("{ size", "{ <<: {x: y}, size"), one(expected));
    let expected = "\
x.yaml:2:17: YAML aliases are not supported, found `*.ndjson`
  2 |   file: { path: *.ndjson }
    |                 ^^^^^^^^
  hint: put the text into quotes: `\"*.ndjson\"`";
    assert_eq!(with("firehose: { stream: clickstream }", "file: { path: *.ndjson }"), one(expected));
    let expected = "\
x.yaml:13:1: a second document begins here
  13 | ---
     | ^^^
  hint: one file is one pipeline";
    assert_eq!(wrong(&format!("{RIGHT}---\n{RIGHT}")), one(expected));
}

#[test]
fn a_template_outside_quotes_is_told_to_be_quoted() {
    let quoted = "\"dt={event_time:%Y-%m-%d}/\"";
    let hint = "  hint: put a text with `{` in it into quotes";
    let said = with(quoted, "{event_time:%Y}/x");
    let expected = "\
x.yaml:12:28: expected a key here
  12 |     prefix: {event_time:%Y}/x
     |                            ^";
    assert_eq!(said, one(&format!("{expected}\n{hint}")));
    let expected = "\
x.yaml:8:18: expected `,` or `}` here
  8 | buffer: { size: ${SIZE}, interval: 60s }
    |                  ^";
    assert_eq!(with("128 MiB", "${SIZE}"), one(&format!("{expected}\n{hint}")));
    let said = with(quoted, "{event_time}");
    let expected = "\
x.yaml:12:5: `sink.object_store.prefix`: expected a text, found a map
  12 |     prefix: {event_time}
     |     ^^^^^^";
    assert_eq!(said, one(&format!("{expected}\n{hint}")));
}

#[test]
fn stations_that_refuse_their_options_are_told_in_place() {
    let expected = "\
x.yaml:12:18: unknown option";
    let said = with("prefix:", "options: { regoin: eu-central-1 }\n    prefix:").replace("./data/lake", "s3://lake/x");
    assert!(said.contains("`sink.object_store.options.regoin`: a local folder has no options"), "{said}");
    let text = RIGHT.replace("./data/lake", "s3://lake/x").replace("prefix:", "options: { regoin: x }\n    prefix:");
    let expected = expected.replace(
        "12:18: unknown option",
        "12:16: `sink.object_store.options.regoin`: unknown option of s3://
  12 |     options: { regoin: x }
     |                ^^^^^^
  hint: did you mean `region`?",
    );
    assert_eq!(wrong(&text), one(&expected));
    let expected = "\
x.yaml:13:16: time zone `Europe/Berlim` is not an IANA name such as `UTC` or `Europe/Berlin`
  13 |     time_zone: Europe/Berlim
     |                ^^^^^^^^^^^^^";
    assert_eq!(wrong(&format!("{RIGHT}    time_zone: Europe/Berlim\n")), one(expected));
    let expected = "\
x.yaml:2:23: `source.firehose.stream`: `click/stream` is no name for a stream
  2 |   firehose: { stream: click/stream }
    |                       ^^^^^^^^^^^^
  hint: write 1 to 64 of `a-z A-Z 0-9 _ . -`";
    assert_eq!(with("clickstream", "click/stream"), one(expected));
}

#[test]
fn what_stations_say_comes_with_its_hint_on_a_line_of_its_own() {
    let expected = "\
x.yaml:4:5: `format.lines`: the extension `.my-LOG` cannot end a name
  4 |     lines: { extension: .my-LOG }
    |     ^^^^^
  hint: write words of `a-z 0-9 _`, each behind a dot, such as `.log.gz`; at most 32 characters";
    let (before, after) = (RIGHT.split("  parquet:").next().unwrap(), RIGHT.split("buffer:").nth(1).unwrap());
    let lines = format!("{before}    lines: {{ extension: .my-LOG }}\nbuffer:{after}");
    assert_eq!(wrong(&lines), one(expected));
    let said = with("timestamp(ms)", "datetime");
    assert!(said.contains(": unknown type datetime at offset 0 of \"datetime\"\n"), "{said}");
    assert!(said.ends_with("\n  hint: did you mean `timestamp(ms)`?\n\n1 problem"), "{said}");
}

#[test]
fn options_without_use_are_told() {
    let expected = "\
x.yaml:13:1: the source `demo` has no spool
  13 | spool: {}
     | ^^^^^
  hint: remove `spool`";
    let text = RIGHT.replace("firehose: { stream: clickstream }", "demo: {}") + "spool: { size: 1 GiB }\n";
    assert_eq!(wrong(&text), one(&expected.replace("spool: {}", "spool: { size: 1 GiB }")));
}

#[test]
fn pipelines_of_one_stream_must_agree_about_its_spool() {
    let other = format!("{RIGHT}spool: {{ size: 1 GiB }}\n");
    let folder = folder(&[("a.yaml", RIGHT.as_bytes()), ("b.yaml", other.as_bytes())]);
    let expected = "\
DIR/b.yaml:13:1: the stream `clickstream` has another `spool` in pipeline `a`
  13 | spool: { size: 1 GiB }
     | ^^^^^
  hint: write the same in both";
    assert_eq!(wrong_paths(folder.path(), &[""]), one(expected));
}

#[test]
fn wrong_settings_are_told_in_place_and_secrets_are_not() {
    let text =
        b"listen: 0.0.0.0:4573\nadmin: here\nmemory: 1 MiB\ncredentials: [{ access_key_id: A, secret_acces_key: hunter2 }]\n";
    let folder = folder(&[("hydrant.yaml", text)]);
    let flags = Flags { config: Some(folder.path().join("hydrant.yaml")), ..Flags::default() };
    let said = settings(flags, &no_variables()).unwrap_err().to_string();
    let expected = "\
DIR/hydrant.yaml:2:8: `admin`: expected an address such as `127.0.0.1:4574`, found `here`
  2 | admin: here
    |        ^^^^

DIR/hydrant.yaml:3:9: `memory`: expected 64 MiB to 1 TiB, found 1 MiB
  3 | memory: 1 MiB
    |         ^^^^^

DIR/hydrant.yaml:4:35: unknown key `secret_acces_key` in `credentials[0]`
  4 | credentials: [{ access_key_id: A, secret_acces_key: ******* }]
    |                                   ^^^^^^^^^^^^^^^^
  hint: did you mean `secret_access_key`?

3 problems";
    assert_eq!(said.replace(folder.path().to_str().unwrap(), "DIR"), expected);
}

#[test]
fn an_address_for_all_the_world_needs_credentials_or_plain_words() {
    let flags = |anonymous| Flags { listen: Some(([0, 0, 0, 0], 4573).into()), anonymous, ..Flags::default() };
    let said = settings(flags(false), &no_variables()).unwrap_err().to_string();
    let expected = "\
--listen: listen address 0.0.0.0:4573 can be reached from the network and no credentials are configured
  hint: give `credentials` in hydrant.yaml (`--config`), or spell out `--anonymous`";
    assert_eq!(said, one(expected));
    assert!(settings(flags(true), &no_variables()).unwrap().0.anonymous);
}

#[test]
fn secrets_come_from_where_they_are_kept_and_a_literal_one_is_warned_of() {
    let text = b"credentials:\n- { access_key_id: A, secret_access_key: env:KEY_A, streams: [clicks] }\n- { access_key_id: B, secret_access_key: hunter2 }\n";
    let folder = folder(&[("hydrant.yaml", text)]);
    let flags = Flags { config: Some(folder.path().join("hydrant.yaml")), ..Flags::default() };
    let (settings, warnings) = settings(flags, &Environment::of([("KEY_A", "hunter1")])).unwrap();
    let secrets: Vec<&str> = settings.credentials.iter().map(|c| c.secret.expose()).collect();
    assert_eq!(secrets, ["hunter1", "hunter2"]);
    assert!(!format!("{settings:?}").contains("hunter"));
    let expected = "\
DIR/hydrant.yaml:3:23: warning: a secret stands in the file itself
  3 | - { access_key_id: B, secret_access_key: ******* }
    |                       ^^^^^^^^^^^^^^^^^
  hint: write `env:NAME`, `file:/path` or `cred:name` (a systemd credential)

1 warning";
    assert_eq!(warnings.to_string().replace(folder.path().to_str().unwrap(), "DIR"), expected);
}

fn hydrant(arguments: &[&str], folder: &Path) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hydrant"));
    command.args(arguments).current_dir(folder).env_clear().output().unwrap()
}

#[test]
fn the_command_checks_and_says_so_with_its_exit_code() {
    let other = RIGHT.replace("clickstream", "clicks").replace("zstd", "zsdt");
    let folder = folder(&[("pipelines/x.yaml", RIGHT.as_bytes()), ("y.yaml", other.as_bytes())]);
    let right = hydrant(&["check", "pipelines"], folder.path());
    assert_eq!(String::from_utf8_lossy(&right.stdout), "x: firehose clickstream -> parquet -> ./data/lake\n");
    assert_eq!((right.status.code(), String::from_utf8_lossy(&right.stderr).as_ref()), (Some(0), ""));

    let wrong = hydrant(&["check", "pipelines", "y.yaml"], folder.path());
    let expected = "\
y.yaml:5:18: `format.parquet.compression`: unknown compression `zsdt`, expected one of zstd, snappy, gzip, lz4, none
  5 |     compression: zsdt
    |                  ^^^^
  hint: did you mean `zstd`?

1 problem
";
    assert_eq!(String::from_utf8_lossy(&wrong.stderr), expected);
    assert_eq!((wrong.status.code(), wrong.stdout.as_slice()), (Some(78), &b""[..]));
    let run = hydrant(&["run", "y.yaml"], folder.path());
    assert_eq!((run.status.code(), String::from_utf8_lossy(&run.stderr).as_ref()), (Some(78), expected));

    let left: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left.len(), 2, "check writes nothing, run with a wrong configuration neither: {left:?}");
}

#[test]
fn wrong_usage_is_2_and_help_has_an_example() {
    let folder = folder(&[]);
    for arguments in [&["check"][..], &["run"], &["chekc", "x"], &[], &["run", "x", "--memory", "1 MiBs"]] {
        let output = hydrant(arguments, folder.path());
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(output.stdout.is_empty() && !output.stderr.is_empty(), "{arguments:?}");
    }
    let output = hydrant(&["run", "x", "--memory", "1 MiBs"], folder.path());
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("expected a size such as `128 MiB`, found `1 MiBs`\nhint: did you mean `1 MiB`?"), "{said}");
    for command in [&["--help"][..], &["run", "--help"], &["check", "--help"]] {
        let output = hydrant(command, folder.path());
        assert_eq!(output.status.code(), Some(0), "{command:?}");
        let help = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(help.contains("Example:\n  hydrant ") || help.contains("Examples:\n  hydrant "), "{command:?}");
    }
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(2000))]

    #[test]
    fn whatever_is_typed_into_a_pipeline_is_answered_in_words(at in 0..RIGHT.len(), cut in 0..40usize, typed in ".{0,6}|[\\[\\]{}:,&*!|>%@`\"'#\\-?$ \t\n]{0,8}") {
        let end = (at + cut).min(RIGHT.len());
        let text = format!("{}{typed}{}", &RIGHT[..at], &RIGHT[end..]);
        if let Err(problems) = load_text("x", "x.yaml", &text, &no_variables()) {
            let said = problems.to_string();
            proptest::prop_assert!(said.starts_with("x.yaml:"), "{said}");
            proptest::prop_assert!(said.lines().last().is_some_and(|line| line.contains(" problem")), "{said}");
        }
    }
}
