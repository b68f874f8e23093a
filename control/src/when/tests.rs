use std::collections::{HashMap, HashSet};

use proptest::prelude::*;

use super::*;

fn variables() -> HashMap<String, String> {
    let pairs = [("N", "5"), ("MODE", "fast"), ("EMPTY", ""), ("LIST", "a,b,c"), ("U", "äö")];
    pairs.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// Compiles and evaluates, in a step of a run of these variables.
fn holds_after(text: &str, failed: bool) -> Result<bool, String> {
    let variables = variables();
    let names: HashSet<String> = variables.keys().cloned().collect();
    let when = When::compile(text, &Scope { variables: &names, step: true }).map_err(|error| format!("compile: {error}"))?;
    let values = Values {
        variables: &variables,
        branch: "main",
        event: "push",
        job: ("build", "d"),
        step: Some(("s", "shell@1.0.0")),
        failed,
    };
    when.holds(&values).map_err(|error| format!("run: {error}"))
}

fn holds(text: &str) -> Result<bool, String> {
    holds_after(text, false)
}

fn refusal(text: &str) -> String {
    holds(text).unwrap_err()
}

/// The answers in the file are those of expr 1.17.8 for Go.
#[test]
fn conditions_mean_what_they_mean_to_expr() {
    // What is left out on purpose, or found sooner.
    let without = [
        ("any([1], {# > 0})", "compile: '#' means nothing"),
        ("let x = 1; x == 1", "compile: 'x' can not stand here"),
        ("{a: 1}.a == 1", "compile: '{' can not stand here"),
        ("if true { true } else { false }", "compile: 'true' can not stand here"),
        ("1 < 2 < 3", "compile: '<' does not fit a bool and a whole number"),
        ("1..3 == [1, 2, 3]", "compile: '==' does not fit a range and a list"),
        ("job.nope == 'x'", "compile: the name 'nope' is unknown here"),
        ("step.nope == 'x'", "compile: the name 'nope' is unknown here"),
    ];
    // expr wants brackets here.
    let more = ["env.NOPE ?? 'x' == ''", "N ?? 'x' == '5'"];
    let table = include_str!("tests/expr-1.17.8.tsv");
    assert!(table.lines().count() > 150);
    let mut other = Vec::new();
    for line in table.lines() {
        let (text, expected) = line.rsplit_once('\t').unwrap();
        let given = holds(text);
        if let Some((_, begin)) = without.iter().find(|(left_out, _)| *left_out == text) {
            assert!(given.as_ref().is_err_and(|error| error.starts_with(begin)), "{text}: {given:?}");
            continue;
        }
        let fits = match expected {
            "true" | "false" => given == Ok(expected == "true"),
            // Found when it is compiled, or only with the values.
            _ => given.is_err() || more.contains(&text),
        };
        if !fits {
            other.push(format!("{text}: {given:?}, but expr says {expected}"));
        }
    }
    assert!(other.is_empty(), "{other:#?}");
}

#[test]
fn mistakes_are_found_when_a_condition_is_compiled() {
    for (text, message) in [
        ("MOED == 'x'", "the name 'MOED' is unknown; declare it in the pipeline's variables; did you mean MODE? (at column 1"),
        (
            "true && N > 3",
            "'>' does not fit text and a whole number; variables are text: compare with text in quotes, or use int(…) (at column 11",
        ),
        ("MODE", "the condition must be true or false, but it is text (at column 1"),
        ("MODE = 'x'", "'=' can not stand here; equality is '==' (at column 6"),
        ("succes()", "the function 'succes' is unknown; did you mean success? (at column 1"),
        ("success", "success is a function; write success() (at column 1"),
        ("len(1)", "len() takes text, a list, a map or a range, not (a whole number) (at column 1"),
        ("MODE matches '('", "'(' is no regular expression: unclosed group (at column 14"),
        ("not MODE == 'x'", "'not' takes a bool, not text; it binds strongly: write not (a == b), or a not in b (at column 1"),
        ("job.nam == 'x'", "the name 'nam' is unknown here; did you mean name? (at column 4"),
        ("ü ==", "a value is missing at the end (at column 5"),
        ("'abc", "the text that begins here has no closing quote (at column 1"),
        ("1 == 5kg", "a letter follows this number; put a space or an operator between (at column 6"),
        ("a § b", "'§' means nothing in a condition (at column 3"),
        ("true /* x", "the comment that begins here has no '*/' (at column 6"),
        (r"'\q' == ''", r"the text that begins here has an unknown escape '\q' (at column 1"),
        (
            r"'\xff' == '\ud800'",
            r"the text that begins here has an escape '\u' without 4 hexadecimal digits of a character (at column 11",
        ),
    ] {
        assert_eq!(refusal(text), format!("compile: {message} of the condition)"), "{text}");
    }
    let names = HashSet::new();
    let error = When::compile("step.name == 'x'", &Scope { variables: &names, step: false }).unwrap_err();
    assert_eq!(error.message, "a job's condition can not name 'step'");
}

#[test]
fn what_only_the_values_show_is_told_then() {
    for (text, message) in [
        ("int(MODE) > 3", "'fast' is not a whole number (at column 1"),
        ("split(LIST, ',')[9] == 'x'", "the list has 3 elements, but element 9 is asked for (at column 17"),
        ("1 % 0 == 1", "division by zero (at column 3"),
        ("9223372036854775807 + 1 > 0", "the number is larger than 2^63 (at column 21"),
        ("N matches (MODE + '(')", "'fast(' is no regular expression: unclosed group (at column 3"),
        ("[1, true][1] > 0", "'>' does not fit a bool and a whole number (at column 14"),
        ("[1][0] == 1 and [true, 1][1]", "'and' takes bools, not a whole number (at column 13"),
    ] {
        assert_eq!(refusal(text), format!("run: {message} of the condition)"), "{text}");
    }
}

#[test]
fn the_functions_of_status_ask_for_what_came_before() {
    for (text, after_good, after_bad) in [
        ("", true, false),
        (" \n", true, false),
        ("true", true, false),
        ("MODE == 'fast'", true, false),
        ("success()", true, false),
        ("failure()", false, true),
        ("always()", true, true),
        ("not success()", false, true),
        ("always() && MODE == 'slow'", false, false),
        ("failure() or MODE == 'fast'", true, true),
    ] {
        assert_eq!((holds_after(text, false), holds_after(text, true)), (Ok(after_good), Ok(after_bad)), "{text}");
    }
}

#[test]
fn variables_win_over_branch_and_event() {
    let variables = HashMap::from([("branch".to_owned(), "mine".to_owned())]);
    let names = variables.keys().cloned().collect();
    let when = When::compile("branch == 'mine' && event == 'cron'", &Scope { variables: &names, step: false }).unwrap();
    let values = Values { variables: &variables, branch: "main", event: "cron", job: ("a", ""), step: None, failed: false };
    assert_eq!(when.holds(&values), Ok(true));
}

#[test]
fn what_can_never_hold_is_recognised() {
    let names = HashSet::from(["A".to_owned()]);
    let never =
        |text: &str, may_fail| When::compile(text, &Scope { variables: &names, step: false }).unwrap().never_holds(may_fail);
    for (text, first, later) in [
        ("false", true, true),
        ("failure()", true, false),
        ("failure() && A == 'x'", true, false),
        ("failure() && success()", true, true),
        ("A == 'x' && false", true, true),
        ("not always()", true, true),
        ("A == 'x'", false, false),
        ("success()", false, false),
        ("failure() || A == 'x'", false, false),
        ("", false, false),
    ] {
        assert_eq!((never(text, false), never(text, true)), (first, later), "{text}");
    }
}

#[test]
fn no_condition_takes_much_memory_or_depth() {
    let long = |name: &str| HashMap::from([(name.to_owned(), "x".repeat(MAX_TEXT_BYTES))]);
    let variables = long("X");
    let names = variables.keys().cloned().collect();
    let scope = Scope { variables: &names, step: false };
    let run = |text: &str| {
        let values = Values { variables: &variables, branch: "", event: "", job: ("a", ""), step: None, failed: false };
        When::compile(text, &scope).and_then(|when| when.holds(&values)).map_err(|error| error.message)
    };
    for (text, part) in [
        ("!".repeat(1000), "more than 400 words"),
        ("(".repeat(300), "nested deeper than 40"),
        ("-".repeat(100), "nested deeper than 40"),
        ("1 + ".repeat(300), "more than 400 words"),
        (format!("'{}' == ''", "x".repeat(MAX_BYTES)), "at most 4096"),
        ("X + 'y' == ''".into(), "longer than 64 KiB"),
        ("replace(X, 'x', X) == ''".into(), "longer than 64 KiB"),
        ("join([X, X]) == ''".into(), "longer than 64 KiB"),
        ("len(split(X, '')) == 1".into(), "more than 1000 parts"),
        ("'a' matches '(((a{50}){50}){50})'".into(), "no regular expression"),
    ] {
        let error = run(&text).unwrap_err();
        assert!(error.contains(part), "{error}");
    }
    assert_eq!(run("len(1..9223372036854775807) > 9 && 5 in 1..9223372036854775807"), Ok(true));
    assert_eq!(run(&format!("{}true", "true && ".repeat(190))), Ok(true));
    assert_eq!(run(&format!("{}true{}", "(".repeat(38), ")".repeat(38))), Ok(true));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_text_compiles_and_runs_or_is_refused_without_a_panic(
        words in prop::collection::vec(prop::sample::select(vec![
            "MODE", "N", "env", ".", "[", "]", "(", ")", "==", "!", "not", "in", "&&", "||", "?", ":", "??", "1", "'a'", "+", "-",
            "**", "..", "len", "int", "success", ",", "|", "\"", "\\", "ü", "1e", "0x", "/*", "matches", "nil", "{", "%", "0",
        ]), 0..12),
    ) {
        let _ = holds(&words.join(" "));
        let _ = holds(&words.concat());
    }
}
