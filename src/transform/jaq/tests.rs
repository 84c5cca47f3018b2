//! What programs make of records, kind and hostile.

use std::time::{Duration, Instant};

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::record::{Batch, BatchBuilder};
use crate::units::Size;

fn batch(record: &str) -> Batch {
    let mut builder = BatchBuilder::default();
    builder.push(record.as_bytes(), 1_795_217_400_123);
    builder.finish()
}

/// The outputs of a program for a record as JSON, one in a line, or why there are none.
fn run_for(program: &str, batch: &Batch, limits: Limits) -> Result<String, String> {
    let program = Program::compile(program, "program").map_err(|wrong| wrong.message)?;
    let run = || {
        let mut lines = Vec::new();
        let done = program.run(batch, 0, limits, |value| {
            let mut line = String::new();
            write(&mut line, &value, 1 << 20).map_err(|unwritten| format!("{unwritten:?}"))?;
            lines.push(line);
            Ok(())
        });
        done.map(|()| lines.join("\n")).map_err(|failure| failure.to_string())
    };
    over::on_large_stack(run).unwrap()
}

fn run(program: &str, record: &str) -> Result<String, String> {
    run_for(program, &batch(record), Limits { time_max: Interval::from_secs(60), memory_max: Size::from_mib(16) })
}

fn made(program: &str, record: &str) -> String {
    run(program, record).unwrap_or_else(|why| panic!("{program} of {record}: {why}"))
}

#[test]
fn programs_do_what_jq_does() {
    for (program, record, expected) in [
        (".a.b", r#"{"a":{"b":1}}"#, "1"),
        (".a.b", "{}", "null"),
        (".[] | .x", r#"[{"x":1},{"x":2}]"#, "1\n2"),
        ("empty", "{}", ""),
        ("select(.level != \"debug\")", r#"{"level":"info"}"#, r#"{"level":"info"}"#),
        ("select(.level != \"debug\")", r#"{"level":"debug"}"#, ""),
        ("{z: .a, a: .z}", r#"{"a":1,"z":2}"#, r#"{"z":1,"a":2}"#),
        ("del(.a)", r#"{"z":1,"a":2,"b":3,"c":4}"#, r#"{"z":1,"b":3,"c":4}"#),
        (".a.b.c = 1", "{}", r#"{"a":{"b":{"c":1}}}"#),
        (".a[2] = 1", "{}", r#"{"a":[null,null,1]}"#),
        (".a += 1 | .b |= length", r#"{"a":1,"b":"xy"}"#, r#"{"a":2,"b":2}"#),
        ("to_entries | map(.key)", r#"{"b":1,"a":2}"#, r#"["b","a"]"#),
        ("keys, (. | tojson)", r#"{"b":1,"a":2}"#, "[\"a\",\"b\"]\n\"{\\\"b\\\":1,\\\"a\\\":2}\""),
        ("with_entries(.value += 1)", r#"{"b":1}"#, r#"{"b":2}"#),
        (". * {a: {y: 2}}", r#"{"a":{"x":1}}"#, r#"{"a":{"x":1,"y":2}}"#),
        (
            ".s | test(\"^h\"), sub(\"l+\"; \"L\"), ascii_upcase, .[1:3]",
            r#"{"s":"hello"}"#,
            "true\n\"heLo\"\n\"HELLO\"\n\"el\"",
        ),
        (".t | strftime(\"%Y-%m-%d\")", r#"{"t":1700000000}"#, "\"2023-11-14\""),
        (".t | fromdate", r#"{"t":"2023-11-14T22:13:20Z"}"#, "1700000000"),
        (".s | fromjson | .a", r#"{"s":"{\"a\":[1]}"}"#, "[1]"),
        ("[.[] | tonumber]", r#"["1","1.50"]"#, "[1,1.50]"),
        ("sort, unique, (map(tostring) | join(\"-\")), add, max", "[3,1,3]", "[1,3,3]\n[1,3]\n\"3-1-3\"\n7\n3"),
        ("group_by(.k) | map(length)", r#"[{"k":1},{"k":2},{"k":1}]"#, "[2,1]"),
        ("[paths]", r#"{"a":[1]}"#, r#"[["a"],["a",0]]"#),
        ("[.[] | @base64, @uri]", r#"["a b"]"#, r#"["YSBi","a%20b"]"#),
        ("@csv, @tsv", r#"["a\"b",1,null,true]"#, "\"\\\"a\\\"\\\"b\\\",1,,true\"\n\"a\\\"b\\t1\\t\\ttrue\""),
        ("\"\\(.a) and \\(.b)\"", r#"{"a":"x","b":[1]}"#, "\"x and [1]\""),
        ("[limit(3; range(10))], first(range(10)), isempty(empty)", "null", "[0,1,2]\n0\ntrue"),
        ("try error(\"x\") catch .", "null", "\"x\""),
        (".. |= (if type == \"number\" then . + 1 else . end)", r#"{"a":[1,{"b":2}]}"#, r#"{"a":[2,{"b":3}]}"#),
        ("def fac: if . <= 1 then 1 else . * (. - 1 | fac) end; fac", "20", "2432902008176640000"),
        ("reduce .[] as {a: $x} (0; . + $x)", r#"[{"a":1},{"a":2}]"#, "3"),
        ("length", "\"äö\"", "2"),
        (
            "has(\"a\"), (.b | has(0)), (.c | contains(\"l\")), (.c | index(\"l\"))",
            r#"{"a":null,"b":[],"c":"hello"}"#,
            "true\nfalse\ntrue\n2",
        ),
        ("env, $ENV, env.PATH, $ENV.HOME", "null", "{}\n{}\nnull\nnull"),
        ("debug, (\"x\" | debug(.))", "1", "1\n\"x\""),
        ("\"x\"", "null", "\"x\""),
    ] {
        assert_eq!(made(program, record), expected, "{program}");
    }
}

#[test]
fn numbers_keep_their_text_until_they_are_calculated_with() {
    for number in ["12345678901234567890", "1.10", "1e400", "-0", "0.1000000000000000055511151231257827", "1E+2"] {
        let record = format!("{{\"a\":{number},\"b\":[{number}]}}");
        assert_eq!(made("{b, a}", &record), format!("{{\"b\":[{number}],\"a\":{number}}}"));
        assert_eq!(made(".a | tostring | tojson | fromjson", &record), format!("\"{number}\""));
    }
    let digits = "9".repeat(5000);
    assert_eq!(made(".", &digits), digits);
    for (program, record, expected) in [
        (". + 1", "12345678901234567890", "12345678901234567891"),
        (". == 12345678901234567891", "12345678901234567890", "false"),
        (". * 2", "1.50", "3"),
        (". / 2", "3", "1.5"),
        (". / 2", "4", "2"),
        (". + 1", "1e300", "1e300"),
        (". + 0.1", "0.2", "0.30000000000000004"),
        (". == 1.1", "1.10", "true"),
        ("-(.)", "1.10", "-1.10"),
        ("floor", "1.9", "1"),
        ("9223372036854775807 + 1", "null", "9223372036854775808"),
    ] {
        assert_eq!(made(program, record), expected, "{program}");
    }
    assert_eq!(run("1 / 0", "null"), Err("NotFinite".into()));
    assert_eq!(run("[nan]", "null"), Err("NotFinite".into()));
}

#[test]
fn what_is_known_of_a_record_is_in_variables() {
    let all = "[$arrival, $key, $topic, $partition, $offset, $headers]";
    assert_eq!(made(all, "1"), "[1795217400123,null,null,null,null,null]");
    let mut builder = BatchBuilder::default();
    builder.set_topic(&"orders".into(), 3);
    builder.push_known(b"1", 5, (Some(b"k\xff"), u64::MAX), [(&b"trace"[..], &b"ff"[..])]);
    let expected = "[5,\"k\u{fffd}\",\"orders\",3,18446744073709551615,[{\"name\":\"trace\",\"value\":\"ff\"}]]";
    assert_eq!(run_for(all, &builder.finish(), Limits::of_time(TIME_MAX)).unwrap(), expected);
}

#[test]
fn a_failure_says_what_the_program_said() {
    for (program, record, expected) in [
        ("error(\"no customer\")", "{}", "no customer"),
        ("error({a: 1})", "{}", "error {\"a\":1}"),
        (".a.b", r#"{"a":5}"#, "cannot index 5 with \"b\""),
        (".a + {}", r#"{"a":5}"#, "cannot calculate 5 + {}"),
        ("{(.a): 1}", r#"{"a":5}"#, "cannot use 5 as the key of an object"),
        ("halt", "{}", "`halt` was called"),
        (".", "hello", "the record is not JSON: expected a value at byte 0"),
        (".", "{\"a\":1} {}", "the record is not JSON: trailing characters at byte 8"),
        (".", "", "the record is not JSON: the text ends early at byte 0"),
        ("fromjson", "\"{\"", "not JSON: the text ends early at byte 1"),
        (".a", &format!("\"{}\"", "x".repeat(1000)), &format!("cannot index \"{}… with \"a\"", "x".repeat(59))),
    ] {
        assert_eq!(run(program, record), Err(expected.to_owned()), "{program}");
    }
    let long = run("error(. * 1000)", "\"ab\"").unwrap_err();
    assert_eq!((long.chars().count(), long.chars().last()), (501, Some('…')));
}

/// Each would never end, or end the process.
#[test]
fn endless_programs_are_left() {
    let limits = Limits::of_time(Interval::from_millis(50));
    let brief = |program: &str| run_for(program, &batch("3"), limits).unwrap_err();
    for program in [
        "def f: f; f",
        "last(range(1e18))",
        "last(range(0; 1; 0))",
        "reduce repeat(1) as $x (0; . + $x)",
        "last(limit(1e18; repeat(1)))",
        "first(range(1e18) | select(. < 0))",
        "until(false; .)",
        "last(repeat(empty))",
        "[range(1e18) | empty]",
        "try last(range(1e18)) catch 1",
        "(last(range(1e18)))? // 1",
        "label $out | foreach range(1e18) as $x (0; .; if . < 0 then ., break $out else empty end)",
        "reduce range(60) as $i (1; [., .]) | (., .) == .",
    ] {
        assert_eq!(brief(program), "the program takes longer than 50ms", "{program}");
    }
}

#[test]
fn programs_that_take_all_memory_are_left() {
    for program in [
        "[range(1e18)]",
        "[repeat(1)]",
        "\"a\" * 1e12",
        "\"a\" * 1e300",
        "reduce range(100) as $i (\"a\"; . + .)",
        "reduce range(100) as $i ([1]; . + .)",
        "[limit(1e9; repeat(\"x\"))]",
        "null | .[1e9] = 1",
        "null | .[1e18] = 1",
        "reduce range(1e9) as $i ({}; .[$i | tostring] = $i)",
        "reduce range(60) as $i (1; [., .]) | tojson",
        "[combinations(1e9)]",
        "reduce range(60) as $i (1; [., .]) | flatten",
    ] {
        assert_eq!(
            run(program, "[[1,2],[3,4]]").unwrap_err(),
            "the program needs more memory than 16 MiB",
            "{program}"
        );
    }
    assert_eq!(run("reduce range(60) as $i (1; [., .])", "1"), Err("TooLong".into()));
    assert_eq!(
        run("reduce range(100) as $i (9223372036854775807; . * .)", "1").unwrap_err(),
        "the product of these numbers is too long"
    );
    assert!(run("test(\"((a{100}){100}){100}\")", "\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\"").is_err());
}

#[test]
fn calls_that_are_never_done_are_left() {
    for program in ["def f: (., .) | f; f", "def f: (try error(\"x\") catch .) | f; f"] {
        assert_eq!(run(program, "1").unwrap_err(), "the program has more than 100000 calls under way", "{program}");
    }
}

/// Each makes a list of the interpreter as long as it can, whose drop calls itself for each node.
const LONG_LISTS: [&str; 9] = [
    "null | path(def f: .a | f; f)",
    "null | first(path(def f: .a | f; f))",
    "null | [paths(true)], path(getpath([range(1e9) | \"a\"]))",
    "def f(g): f(g); f(.)",
    "def f(g): f(g | g); f(.)",
    "def f(g; $x; h): f(g; $x; h); f(.; 1; .)",
    "def f(a; b): if . > 1000000000 then . else . + 1 | f(b; a) end; 0 | f(1; 2)",
    "def f(a; b; c; d; e; g; h; i; j; k): f(b; c; d; e; g; h; i; j; k; a); f(1; 2; 3; 4; 5; 6; 7; 8; 9; 0)",
    "def times(f): if . <= 0 then . else . - 1 | times(f) end; 1e9 | times(.)",
];

#[test]
fn the_longest_list_fits_the_stack() {
    let limits = Limits { time_max: Interval::from_secs(600), memory_max: Size::from_mib(4096) };
    for program in LONG_LISTS {
        let program = Program::compile(program, "program").unwrap_or_else(|wrong| panic!("{program}: {wrong:?}"));
        let (why, touched) = over::on_large_stack(|| {
            let why = program.run(&batch("1"), 0, limits, |_| Ok(())).unwrap_err().to_string();
            (why, stack_touched())
        })
        .unwrap();
        assert!(why.starts_with("the program takes more than"), "{why}");
        assert!(touched < over::STACK_BYTES / 2, "{touched} bytes of stack");
    }
}

/// Bytes of this thread's stack that were ever used.
fn stack_touched() -> usize {
    let here = std::ptr::from_ref(&std::hint::black_box(0u8)).addr();
    let maps = std::fs::read_to_string("/proc/self/smaps").unwrap();
    let mut within = false;
    for line in maps.lines() {
        let mut words = line.split_whitespace();
        let first = words.next().unwrap();
        if let Some((start, end)) = first.split_once('-') {
            let address = |text| usize::from_str_radix(text, 16).unwrap();
            within = (address(start)..address(end)).contains(&here);
        } else if within && first == "Rss:" {
            return words.next().unwrap().parse::<usize>().unwrap() << 10;
        }
    }
    panic!("no stack")
}

#[test]
fn a_regular_expression_of_the_record_is_judged_before_it_runs() {
    let of = |regex: &str, text: &str| json!({"re": regex, "s": text}).to_string();
    let why = |program: &str, record: &str| run(program, record).unwrap_err();
    let test = ".re as $r | .s | test($r)";
    assert_eq!(why(test, &of(&"()".repeat(60_000), "a")), "a regular expression has at most 100 groups");
    let too_long = "this regular expression takes too long on a text of this length";
    let text = "a".repeat(100_000);
    assert_eq!(why(".re as $r | .s | [match($r; \"g\")] | length", &of("a(.*b)?", &text)), too_long);
    assert_eq!(why(".re as $r | .s | test($r; \"x\")", &of("((a {1000}) {1000})", &text)), too_long);
    let comments = "a regular expression with `{` can have no comments";
    assert_eq!(why(test, &of("(?x)(a # b\n{1000})", &text)), comments);
    assert_eq!(made(".re as $r | .s | gsub($r; \"b\")", &of("a+", &text)), "\"b\"");
    assert_eq!(made(".re as $r | .s | sub($r; \"b\")", &of("a(.*c)?", "xay")), "\"xby\"");
}

#[test]
fn work_within_one_step_is_left_too() {
    let text = |length: usize| format!("{{\"s\":\"{}\"}}", "a".repeat(length));
    let limits = Limits::of_time(Interval::from_millis(50));
    for program in [
        ".s as $s | $s | indices($s[500000:])",
        "[range(1e9) as $i | .s | length] | add",
        ".s | last(repeat(test(\"b\")))",
    ] {
        let why = run_for(program, &batch(&text(1_000_000)), limits).unwrap_err();
        assert_eq!(why, "the program takes longer than 50ms", "{program}");
    }
    assert_eq!(made("indices(\"aä\")", "\"aäaäa\""), "[0,2]");
    assert_eq!(made("indices(\"aa\")", "\"aaaa\""), "[0,1,2]");
}

#[test]
fn a_text_is_not_written_far_beyond_its_limit() {
    let mut out = String::new();
    let text = Value::from("\u{1}".repeat(1000));
    assert_eq!(write(&mut out, &text, 100), Err(Unwritten::TooLong));
    assert!(out.len() < 120, "{}", out.len());
    assert_eq!(
        run("(\"\\u0001\" * 1000000) | [., ., ., ., ., ., .] | tojson", "1").unwrap_err(),
        "the program needs more memory than 16 MiB"
    );
}

#[test]
fn a_depth_that_is_gone_is_not_held_against_a_value() {
    assert_eq!(made("reduce range(1000) as $i ([1]; [.] | .[0] = [])", "1"), "[[]]");
    assert_eq!(made("reduce range(1000) as $i ({}; {a: .} | del(.a))", "1"), "{}");
}

#[test]
fn numbers_and_times_that_others_get_wrong() {
    assert_eq!(made("[nan, 1, infinite] | tojson, tostring, @json", "1"), ["\"[null,1,null]\""; 3].join("\n"));
    assert_eq!(made("00.5, 1.50, 007", "1"), "0.5\n1.50\n7");
    for program in ["gmtime", "strftime(\"%Y\")", "todate"] {
        assert!(run(program, "18446744073709").is_err(), "{program}");
    }
    assert_eq!(
        made("strftime(\"%Y\"), (gmtime | .[0]), todate", "1700000000"),
        "\"2023\"\n2023\n\"2023-11-14T22:13:20Z\""
    );
}

#[test]
fn recursion_ends_before_the_stack_does() {
    for program in [
        "def f: 1 + f; f",
        "def f: [f]; f",
        "def f: f | f; f",
        "def f: f as $x | f; f",
        "def f: {a: f}; f",
        "def f: def g: 1 + f; [g]; f",
        "def f(g): f(g | g) + 1; f(.)",
        "def f: try f catch f; f",
        "def f: first(f); f",
        "def f: path(f); f",
        "def f: [[2], [1]] | sort_by(f); f",
        "def f: .a |= f; null | f",
        "def f: reduce .[] as $x (0; [1] | f); f",
    ] {
        let why = run(program, "[1]").unwrap_err();
        let limits = ["the program calls itself too often", "the program needs more memory than 16 MiB"];
        assert!(
            limits.contains(&why.as_str()) || why.contains("nested") || why.contains("invalid path"),
            "{program}: {why}"
        );
    }
    assert_eq!(made("def f: if . == 0 then 0 else 1 + (. - 1 | f) end; f", "200"), "200", "a modest depth is fine");
    assert_eq!(made("def f: if . == 0 then 0 else . - 1 | f end; f", "100000"), "0", "tail calls cost no stack");
}

#[test]
fn no_value_nests_deeper_than_a_stack_bears() {
    let deep = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
    assert_eq!(made("..|=.", &deep(128)), deep(128));
    assert_eq!(made("[..] | length", &deep(127)), "127");
    for levels in [129, 100_000] {
        assert!(run(".", &deep(levels)).unwrap_err().starts_with("the record is not JSON: nested deeper than 128"));
        let text = serde_json::to_string(&deep(levels)).unwrap();
        assert!(run("fromjson", &text).unwrap_err().contains("nested deeper than 128"));
    }
    for program in [
        "reduce range(1000000) as $i (null; [.])",
        "reduce range(1000000) as $i (null; {a: .})",
        "def f: [.] | f; f",
        "reduce range(200) as $i ([]; . as $x | [] | .[0] = $x)",
        "reduce range(200) as $i ({}; . as $x | {} | .a.b = $x)",
        "reduce range(200) as $i ({}; . as $x | {a: null} * {a: $x})",
        "[[]] | until(false; .[0] = .)",
    ] {
        assert_eq!(run(program, "1").unwrap_err(), "a value is nested deeper than 128", "{program}");
    }
}

#[test]
fn one_record_that_is_too_much_leaves_no_trace() {
    let program = "if . == 1 then last(range(1e18)) elif . == 2 then [range(1e18)] else . end";
    let program = Program::compile(program, "program").unwrap();
    for record in ["1", "2", "3", "1", "3"] {
        let begun = Instant::now();
        let done = program.run(&batch(record), 0, Limits::of_time(Interval::from_millis(50)), |_| Ok(()));
        assert_eq!(done.is_ok(), record == "3");
        assert!(begun.elapsed() < Duration::from_secs(30), "it ends");
    }
}

#[test]
fn a_wrong_program_is_told_where_and_what_was_expected() {
    for (program, offset, message, hint) in [
        (".a | tojsn", 5, "there is no function `tojsn`", "did you mean `tojson`?"),
        ("test()", 5, "expected a value or function, found `)`", ""),
        (".a | test", 5, "`test` takes 1 or 2 arguments, not 0", ""),
        ("$keyy", 0, "there is no variable `$keyy`", "did you mean `$key`?"),
        (
            "1 + $zzzzzzzz",
            4,
            "there is no variable `$zzzzzzzz`",
            "known without `as` are `$arrival`, `$key`, `$topic`, `$partition`, `$offset`, `$headers`, `$ENV`",
        ),
        ("break $out", 6, "there is no label `$out`", ""),
        (".a[", 3, "expected a closing bracket, found the end", ""),
        (".a |", 4, "expected a value or function, found the end", ""),
        ("if .a then 1 else", 17, "expected a value or function, found the end", ""),
        (".a §", 3, "expected a token, found `§`", ""),
        ("\"abc", 4, "expected a closing quote, found the end", ""),
        (".a\n| .b\n| foo", 10, "line 3: there is no function `foo`", ""),
        (
            "include \"x\"; .",
            9,
            "a program cannot load modules or files",
            "write its definitions here: `def name: ..; ..`",
        ),
        ("input", 0, "there is no function `input`", "a program sees one record at a time"),
        ("localtime", 0, "there is no function `localtime`", "times are UTC here: `gmtime`, `strftime`"),
        (" ", 0, "the program is empty", "`.` is the record as it is"),
    ] {
        let wrong = Program::compile(program, "program").err().unwrap_or_else(|| panic!("{program} compiles"));
        assert_eq!(wrong.message, message, "{program}");
        assert_eq!(wrong.offset.unwrap_or(0), offset, "{program}");
        assert_eq!(wrong.hint.unwrap_or_default(), hint, "{program}");
    }
}

#[test]
fn a_program_of_nothing_but_brackets_is_refused_or_compiled() {
    for open in ["(", "[", "{a:", "-", "def f: ", "if ", "try ", ".a as $x | ", "\"\\("] {
        let _ = Program::compile(&open.repeat(compile_bytes() / open.len()), "program");
    }
    for fine in [". | ", "1 + ", ". as $x | ", "try "] {
        let program = fine.repeat((compile_bytes() - 1) / fine.len()) + ".";
        let program = Program::compile(&program, "program").unwrap();
        let _ = program.run(&batch("1"), 0, Limits::of_time(TIME_MAX), |_| Ok(()));
    }
    assert!(Program::compile(&"1".repeat(compile_bytes() + 1), "program").is_err());
}

fn compile_bytes() -> usize {
    super::compile::PROGRAM_BYTES_MAX
}

#[test]
fn the_keys_of_an_object_are_known_from_its_text() {
    let keys = |text: &str| Program::compile(text, "query").unwrap().keys.map(|keys| keys.join(" "));
    for (text, expected) in [
        ("{customer: .customer_id, \"day\": (.ts|strftime(\"%Y\"))}", Some("customer day")),
        ("{customer_id}", Some("customer_id")),
        (".a | {b: .c}", Some("b")),
        (". as $x | {$x}", Some("x")),
        ("def d: 1; {a: d}", Some("a")),
        ("{\"a\\u0062\": 1}", Some("ab")),
        ("{}", Some("")),
        ("{(.a): 1}", None),
        (".a", None),
        ("{a: 1} + {b: 2}", None),
        ("if .a then {a} else {b} end", None),
    ] {
        assert_eq!(keys(text).as_deref(), expected, "{text}");
    }
}

fn any_json() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(serde_json::Value::from),
        any::<i64>().prop_map(serde_json::Value::from),
        any::<u64>().prop_map(serde_json::Value::from),
        any::<f64>().prop_filter_map("finite", |real| serde_json::Number::from_f64(real).map(serde_json::Value::from)),
        "(.|[\u{0}-\u{1f}\"\\\\]){0,8}".prop_map(serde_json::Value::from),
    ];
    leaf.prop_recursive(5, 48, 5, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..5).prop_map(serde_json::Value::from),
            proptest::collection::vec((".{0,3}", inner), 0..5)
                .prop_map(|pairs| serde_json::Value::from(pairs.into_iter().collect::<serde_json::Map<_, _>>())),
        ]
    })
}

proptest! {
    #[test]
    fn a_record_that_is_not_touched_stays_the_same_value(value in any_json(), pretty: bool) {
        let text = if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) }.unwrap();
        let made = made(".", &text);
        let read = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
        prop_assert_eq!(read(&made), read(&text), "{}", &made);
        prop_assert_eq!(run("tojson | fromjson", &text), Ok(made));
    }

    #[test]
    fn what_serde_json_reads_is_read_and_nothing_else(text in "[\\[\\]{}\",:a01tru\\\\.\u{1} -]{0,14}") {
        let theirs = serde_json::from_str::<serde_json::Value>(&text);
        prop_assert_eq!(run(".", &text).is_ok(), theirs.is_ok(), "{}", text);
    }

    #[test]
    fn no_record_or_program_is_too_strange(program in "[.|$()\\[\\]{}:,\"a-c1 +*/?-]{0,12}", record in any_json()) {
        let _ = run_for(&program, &batch(&record.to_string()), Limits::of_time(Interval::from_millis(100)));
    }
}

#[test]
fn half_a_character_is_replaced_as_jq_does() {
    assert_eq!(made(".", r#""a\ud83d\ude00b""#), "\"a😀b\"");
    for half in [r#""\ud83d""#, r#""\ude00""#, r#""\ud83dx""#, r#""\ud83d\n""#, r#""\ud83d\u0041""#] {
        assert!(made(".", half).contains('\u{fffd}'), "{half}");
    }
    assert_eq!(
        serde_json::from_str::<serde_json::Value>(&made(".", r#"["\u0000\/\b\f"]"#)).unwrap(),
        json!(["\0/\u{8}\u{c}"])
    );
}
