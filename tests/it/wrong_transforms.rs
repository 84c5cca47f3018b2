//! Wrong transforms and partition keys, each with the exact words that a user reads.

use hydrant::config::{Environment, load_text};

/// A pipeline that is right but for what is put in it: the transforms, and what is below the sink.
fn pipeline(transforms: &str, sink: &str) -> String {
    format!(
        "source: {{ http: {{ stream: s }} }}\n{transforms}format: {{ lines: {{}} }}\nsink:\n  object_store:\n    \
         url: ./data\n{sink}"
    )
}

fn said(transforms: &str, sink: &str) -> String {
    match load_text("x", "x.yaml", &pipeline(transforms, sink), &Environment::of([])) {
        Ok(spec) => spec.to_string(),
        Err(problems) => problems.to_string(),
    }
}

/// What is said about transforms, without the count at the end.
fn wrong(transforms: &str) -> String {
    let said = said(transforms, "");
    said.strip_suffix("\n\n1 problem").unwrap_or_else(|| panic!("one problem: {said}")).to_owned()
}

#[test]
fn right_transforms_are_right() {
    let transforms = "transforms:\n- jq: .\n- filter: .a == 1\n- filter: true\n- jq: { program: \".a\", time_max: 100ms }\n\
                      - metadata_extraction: { query: \"{a: .b}\", parsing_engine: JQ-1.6 }\n";
    let way = "x: http s -> jq -> filter -> filter -> jq -> metadata_extraction -> lines -> ./data";
    assert_eq!(said(transforms, ""), way);
    assert_eq!(said("transforms: []\n", ""), "x: http s -> lines -> ./data");
}

#[test]
fn a_wrong_program_is_told_the_place_in_it() {
    let expected = "\
x.yaml:3:12: `transforms[0].jq`: there is no function `tojsn`
  3 | - jq: .a | tojsn
    |            ^
  hint: did you mean `tojson`?";
    assert_eq!(wrong("transforms:\n- jq: .a | tojsn\n"), expected);
    let expected = "\
x.yaml:4:36: `transforms[1].filter`: expected a value or function, found `)`
  4 | - filter: \"(.level == 1) and (.b ==)\"
    |                                    ^";
    assert_eq!(wrong("transforms:\n- jq: .\n- filter: \"(.level == 1) and (.b ==)\"\n"), expected);
    let expected = "\
x.yaml:4:26: `transforms[0].jq.program`: there is no variable `$keyy`
  4 |     program: \"{k: .a, l: $keyy}\"
    |                          ^
  hint: did you mean `$key`?";
    assert_eq!(wrong("transforms:\n- jq:\n    program: \"{k: .a, l: $keyy}\"\n"), expected);
    let said = wrong("transforms:\n- jq: |\n    .a\n    | foo\n");
    assert!(said.contains("`transforms[0].jq`: line 2: there is no function `foo`"), "{said}");
    let said = wrong("transforms:\n- metadata_extraction: { query: \"{a: .b\" }\n");
    let words = "x.yaml:3:40: `transforms[0].metadata_extraction.query`: expected a closing brace, found the end";
    assert!(said.starts_with(words), "{said}");
}

#[test]
fn an_unknown_word_or_key_is_told_the_right_one() {
    let said = wrong("transforms:\n- filtr: .a\n");
    assert!(said.starts_with("x.yaml:3:3: `transforms[0]`: expected exactly one of `filter`, `jq`"), "{said}");
    assert!(said.ends_with("hint: did you mean `filter`?"), "{said}");
    let said = wrong("transforms:\n- jq: { progam: . }\n");
    assert!(said.contains("unknown key `progam` in `transforms[0].jq`"), "{said}");
    assert!(said.ends_with("hint: did you mean `program`?"), "{said}");
    let said = wrong("transforms:\n- metadata_extraction: { query: \"{a}\", parsing_engine: JQ-1.7 }\n");
    assert!(said.contains("`transforms[0].metadata_extraction.parsing_engine`") && said.contains("`JQ-1.6`"), "{said}");
}

#[test]
fn what_is_no_list_of_transforms_is_told_so() {
    for (transforms, place, words) in [
        ("transforms: {}\n", "2:1", "`transforms`: expected a list, found an empty map"),
        ("transforms: { jq: . }\n", "2:1", "`transforms`: expected a list, found a map"),
        (
            "transforms:\n-\n",
            "3:2",
            "`transforms[0]`: expected one of `filter`, `jq`, `metadata_extraction`, `wasm`, `lambda`, found nothing",
        ),
        ("transforms:\n- jq: .\n  filter: .\n", "4:3", "`transforms[0]`: expected exactly one of"),
        (
            "transforms:\n- jq:\n",
            "3:3",
            "`transforms[0].jq`: expected a jq program, or a map of `program`, `time_max`, `output_max`, found nothing",
        ),
        ("transforms:\n- jq: [.]\n", "3:3", "`transforms[0].jq`: expected a jq program"),
        ("transforms:\n- jq: \"\"\n", "3:7", "`transforms[0].jq`: the program is empty"),
        ("transforms:\n- filter: \" \"\n", "3:11", "`transforms[0].filter`: the program is empty"),
        ("transforms:\n- jq: {}\n", "3:3", "missing key `program` in `transforms[0].jq`"),
        (
            "transforms:\n- metadata_extraction: \"{a}\"\n",
            "3:24",
            "`transforms[0].metadata_extraction`: expected a map of `query`",
        ),
        (
            "transforms:\n- jq: { program: ., time_max: 5 }\n",
            "3:31",
            "`transforms[0].jq.time_max`: expected an interval such as `60s`, found `5`",
        ),
    ] {
        let said = wrong(transforms);
        let first = said.lines().next().unwrap();
        assert!(first.contains(words), "{transforms}{said}");
        assert!(first.starts_with(&format!("x.yaml:{place}: ")), "{transforms}{said}");
    }
    let many = format!("transforms:\n{}", "- jq: .\n".repeat(17));
    assert!(wrong(&many).starts_with("x.yaml:19:3: `transforms`: 17 transforms are more than 16"), "{}", wrong(&many));
}

#[test]
fn every_wrong_transform_is_told() {
    let said = said("transforms:\n- jq: foo\n- filter: bar\n- nothing: 1\n", "    prefix: \"!{partitionKey:x}/\"\n");
    for words in ["`transforms[0].jq`: there is no function `foo`", "function `bar`", "found `nothing`", "3 problems"] {
        assert!(said.contains(words), "{words}: {said}");
    }
}

#[test]
fn a_prefix_of_a_key_that_nothing_gives_is_refused() {
    let prefix = "    prefix: \"a/!{partitionKeyFromQuery:custmer}/\"\n";
    let expected = "\
x.yaml:8:16: `sink.object_store.prefix`: partition key `custmer` is not declared
  8 |     prefix: \"a/!{partitionKeyFromQuery:custmer}/\"
    |                ^
  hint: did you mean `customer`?

1 problem";
    let transforms = "transforms:\n- metadata_extraction: { query: \"{customer: .customer_id}\" }\n";
    assert_eq!(said(transforms, prefix), expected);
    assert!(said("transforms: [jq: .]\n", prefix).contains("partition key `custmer` is not declared"));
    let lambda = "    prefix: \"a/!{partitionKeyFromLambda:customer}/\"\n";
    assert!(said(transforms, lambda).contains("no `lambda` or `wasm` transform can give partition key `customer`"));
    let any = "transforms:\n- metadata_extraction: { query: \".keys\" }\n";
    assert!(said(any, prefix).starts_with("x: http s -> metadata_extraction"), "a query may give any");
}

#[test]
fn a_key_that_is_declared_twice_is_refused_with_both_places() {
    let transforms = "transforms:\n- jq: .\n- metadata_extraction: { query: \"{a: .b}\" }\n";
    let sink = "    prefix: \"!{partitionKey:a}/\"\n    partition_keys:\n      a: .c\n";
    let expected = "\
x.yaml:11:7: `sink.object_store.partition_keys`: `transforms[1].metadata_extraction` gives a partition key `a` too
  11 |       a: .c
     |       ^
  hint: declare it in one of them, or give one of them another name

1 problem";
    assert_eq!(said(transforms, sink), expected);
    let other = sink.replace("a: .c", "c: .c");
    assert!(said(transforms, &other).starts_with("x: http s -> jq"), "both ways go together");
}
