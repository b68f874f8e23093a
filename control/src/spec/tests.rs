use std::collections::HashMap;

use arcgate_api::pipeline::v1 as pb;
use proptest::prelude::*;
use prost::Message as _;
use prost_types::FileDescriptorSet;

use super::*;

mod roundtrip;
mod validate;

fn problems(text: &str) -> Vec<String> {
    problems_in(text, Format::Yaml)
}

fn problems_in(text: &str, format: Format) -> Vec<String> {
    read(text, format).map_or_else(|problems| problems.iter().map(ToString::to_string).collect(), |_| Vec::new())
}

const GOOD: &str = "
namespace: shop
version: 1.0.0
variables: &vars
  MODE: fast
jobs:
  - name: build
    retry: {maxAttempts: 3, delay: 10s}
    steps:
      - name: compile
        uses: shell
        args:
          script: |
            make
            make install
          times: [1, 2.5, null, true, {a: b}]
        runOnAgent: true
        agentSelector:
          match_labels: {os: linux}
          matchExpressions: [{key: cpus, operator: Gt, values: ['4']}]
  - name: test
    depends_on: [build]
    env: {<<: *vars, LEVEL: '1'}
    steps: [{name: t, uses: shell}]
";

#[test]
fn yaml_is_read_into_the_contracts_messages() {
    let spec = read(GOOD, Format::Yaml).unwrap().spec;
    assert_eq!((spec.namespace.as_str(), spec.version.as_str()), ("shop", "1.0.0"));
    assert_eq!(spec.jobs[0].retry, Some(pb::Retry { max_attempts: 3, delay: "10s".into() }));
    assert_eq!(spec.jobs[1].depends_on, ["build"]);
    assert_eq!(spec.jobs[1].env, HashMap::from([("MODE".into(), "fast".into()), ("LEVEL".into(), "1".into())]));
    let step = &spec.jobs[0].steps[0];
    assert!(step.run_on_agent);
    let selector = step.agent_selector.as_ref().unwrap();
    assert_eq!(selector.match_expressions[0].values, ["4"]);
    let script = &step.args.as_ref().unwrap().fields["script"];
    assert_eq!(script.kind, Some(prost_types::value::Kind::StringValue("make\nmake install\n".into())));
}

#[test]
fn json_and_yaml_of_a_definition_mean_the_same() {
    let spec = read(GOOD, Format::Yaml).unwrap().spec;
    for format in [Format::Json, Format::Yaml] {
        let text = write(&spec, format);
        assert_eq!(read(&text, format).unwrap().spec, spec, "{text}");
    }
    let json = write(&spec, Format::Json);
    // JSON is YAML too.
    assert_eq!(read(&json, Format::Yaml).unwrap().spec, spec);
    let yaml = write(&spec, Format::Yaml);
    assert!(yaml.contains("          script: |\n            make\n            make install\n"), "{yaml}");
    assert!(yaml.contains("    dependsOn:\n      - build\n") && yaml.contains("agent_selector:"), "{yaml}");
}

#[test]
fn unknown_keys_are_told_with_place_path_and_the_nearest_key() {
    let text =
        "namespace: a\njobs:\n  - name: a\n  - steps:\n      - agentSelecter: {}\n        params: {}\n    needs: [a]\nzzz: 1\n";
    assert_eq!(
        problems(text),
        [
            "line 5, column 9: jobs[1].steps[0].agentSelecter: unknown key; did you mean agent_selector?",
            "line 6, column 9: jobs[1].steps[0].params: unknown key; did you mean args?",
            "line 7, column 5: jobs[1].needs: unknown key; did you mean dependsOn?",
            "line 8, column 1: zzz: unknown key; known: namespace, version, variables, runtime, meta, triggers, jobs",
        ]
    );
    let json = "{\"namespace\": \"a\",\n \"jbos\": []}";
    assert_eq!(problems_in(json, Format::Json), ["line 2, column 2: jbos: unknown key; did you mean jobs?"]);
}

#[test]
fn wrong_types_are_told_with_what_to_write() {
    let text = "namespace: 7\nversion: 1.0\nvariables: {A: 1, B: true}\njobs: [null, 3]\ntriggers: {}\nmeta: [x]\n";
    assert_eq!(
        problems(text),
        [
            "line 1, column 12: namespace: must be text, not a number; write \"7\"",
            "line 2, column 10: version: must be text, not a number; write \"1.0\"",
            "line 3, column 16: variables.A: must be text, not a number; write \"1\"",
            "line 3, column 22: variables.B: must be text, not a bool; write \"true\"",
            "line 4, column 8: jobs[0]: must be a map, not null",
            "line 4, column 14: jobs[1]: must be a map, not a number (3)",
            "line 5, column 11: triggers: must be a list, not a map",
            "line 6, column 7: meta: must be a map, not a list",
        ]
    );
    let text = "jobs: [{retry: {max_attempts: 1.5}, steps: [{run_on_agent: yes, args: {big: 12345678901234567890}}]}]";
    assert_eq!(
        problems(text),
        [
            "line 1, column 31: jobs[0].retry.max_attempts: must be a whole number up to 2147483647, not a number (1.5)",
            "line 1, column 60: jobs[0].steps[0].run_on_agent: must be true or false without quotes, not the text 'yes'",
            "line 1, column 77: jobs[0].steps[0].args.big: 12345678901234567890 has more digits than a JSON number keeps; write it in quotes",
        ]
    );
}

#[test]
fn a_field_in_two_spellings_and_a_repeated_key_are_mistakes() {
    let text = "jobs: [{depends_on: [a], dependsOn: [b]}]";
    assert_eq!(problems(text), ["line 1, column 26: jobs[0].dependsOn: this field is set twice, in two spellings; remove one"]);
    assert_eq!(problems("namespace: a\nnamespace: b\n"), ["line 2, column 1: the key 'namespace' stands twice in this map"]);
    let json = "{\"namespace\": \"a\", \"namespace\": \"b\"}";
    assert_eq!(problems_in(json, Format::Json), ["line 1, column 20: the key 'namespace' stands twice in this map"]);
}

#[test]
fn problems_are_counted_past_twenty() {
    let text: String = (0..30).map(|i| format!("key{i}: 1\n")).collect();
    let told = problems(&text);
    assert_eq!(told.len(), MAX_PROBLEMS + 1);
    assert_eq!(told[MAX_PROBLEMS], "and at least 10 more; correct the ones above first");
}

#[test]
fn broken_syntax_is_told_with_its_place() {
    for (text, message) in [
        ("{\"a\": }", "line 1, column 7: a value must begin here, not '}'"),
        ("{\"a\": 1\n \"b\": 2}", "line 2, column 2: ',' or '}' is missing in the map that begins at line 1"),
        ("{\"a\" 1}", "line 1, column 6: ':' is missing behind the key"),
        ("{a: 1}", "line 1, column 2: a key in double quotes must stand here"),
        ("{\"a\": yes}", "line 1, column 7: 'yes' is no JSON value; text stands in double quotes"),
        ("{\"a\": 01}", "line 1, column 7: '01' is not a JSON number: invalid number"),
        ("{\"a\": \"x\n\"}", "line 1, column 7: the string that begins here has no closing quote"),
        ("{} {}", "line 1, column 4: something follows the closing bracket; remove it"),
        ("{\"a\": [1, 2", "line 1, column 12: ',' or ']' is missing in the list that begins at line 1"),
    ] {
        assert_eq!(problems_in(text, Format::Json), [message], "{text}");
    }
    for (text, begin) in [
        ("jobs: [", "line "),
        ("a: b: c", "line 1, column "),
        ("a: 1\n---\nb: 2\n", "line 2, column 1: a second document"),
        ("a: !!set {b}", "line 1, column "),
        ("a: &x [*x]", "line 1, column 8: this alias names an anchor that is not complete"),
        ("{}: {a: b}: c", "line 1, column 1: "),
        ("", "the definition is empty"),
        ("# nothing", "the definition is empty"),
        ("a: .nan", "line 1, column 4: '.nan' can not be kept"),
        ("- a", "line 1, column 1: the definition: must be a map, not a list"),
    ] {
        let told = problems(text);
        assert!(told.len() == 1 && told[0].starts_with(begin), "{text}: {told:?}");
    }
}

#[test]
fn what_grows_without_end_is_refused() {
    let mut bomb = "a: &a [x, x, x, x, x, x, x, x, x]\n".to_owned();
    for (below, name) in ('a'..'j').zip('b'..'k') {
        let below = format!("*{below}, ").repeat(9);
        bomb.push_str(&format!("{name}: &{name} [{below}]\n"));
    }
    let large = format!("a: &a {}\nb: [{}]\n", "x".repeat(100_000), "*a, ".repeat(1000));
    let deep_yaml = format!("meta: {}{}", "{a: ".repeat(40), "}".repeat(40));
    let staircase = (0..40).fold("a: &a0 [x]\n".to_owned(), |text, i| text + &format!("b{i}: &a{} [*a{i}]\n", i + 1));
    let long = "#".repeat(MAX_BYTES + 1);
    let key = format!("{}: x", "k".repeat(MAX_KEY_BYTES + 1));
    for (text, part) in [
        (bomb, "more than 100000 values"),
        (large, "more than 100000 values"),
        (deep_yaml, "deeper than 32"),
        (staircase, "deeper than 32"),
        (long, "1048577 bytes"),
        (key, "257 bytes"),
    ] {
        let told = problems(&text);
        assert!(told.len() == 1 && told[0].contains(part), "{told:?}");
    }
    let deep = "[".repeat(100_000);
    assert_eq!(problems_in(&deep, Format::Json), ["line 1, column 34: nested deeper than 32 levels"]);
    for nasty in ["[", "{", "? ", "- ", "a: ", "&a ", "*a ", "!a ", "|\n", "'", "\"", "%", "\t", "a: [\n"] {
        let text = nasty.repeat(20_000);
        assert!(read(&text, Format::Yaml).is_err(), "{nasty}");
    }
}

#[test]
fn what_was_read_fits_into_a_message() {
    let deepest = |opens: usize| format!("jobs: [{{steps: [{{args: {}x{}}}]}}]", "{a: ".repeat(opens), "}".repeat(opens));
    let levels = (1..40).take_while(|levels| read(&deepest(*levels), Format::Yaml).is_ok()).last().unwrap();
    assert!(levels > 20);
    let spec = read(&deepest(levels), Format::Yaml).unwrap().spec;
    assert_eq!(Spec::decode(spec.encode_to_vec().as_slice()).unwrap(), spec);
}

#[test]
fn the_table_of_fields_is_the_contracts() {
    let files = FileDescriptorSet::decode(arcgate_api::FILE_DESCRIPTOR_SET).unwrap().file;
    let file = files.iter().find(|file| file.name().ends_with("pipeline_spec.proto")).unwrap();
    assert_eq!(file.message_type.len(), fields::MESSAGES.len());
    for message in &file.message_type {
        let (_, table) = fields::MESSAGES.iter().find(|(name, _)| *name == message.name()).unwrap();
        let mut table: Vec<_> =
            table.iter().map(|field| field.trim_start_matches("r#").replace("depends_on", "dependsOn")).collect();
        let mut contract: Vec<_> = message.field.iter().map(|field| field.name().to_owned()).collect();
        table.sort();
        contract.sort();
        assert_eq!(table, contract, "{}", message.name());
    }
}

#[test]
fn the_syntax_is_told_by_the_name_then_by_the_text() {
    assert_eq!(Format::of("a/b.YAML", "{}"), Format::Yaml);
    assert_eq!(Format::of("b.yml", "{}"), Format::Yaml);
    assert_eq!(Format::of("b.json", "a: b"), Format::Json);
    assert_eq!(Format::of("pipeline", " {}"), Format::Json);
    assert_eq!(Format::of("ü", "a: b"), Format::Yaml);
}

#[test]
fn a_path_leads_to_its_place_in_any_spelling() {
    let document = read(GOOD, Format::Yaml).unwrap();
    let path = Path::default().element("jobs", 0).element("steps", 0).key("agent_selector").key("match_expressions");
    assert_eq!(document.place(&path), Place { line: 20, column: 11 });
    // What is not there is shown where it would be.
    let path = Path::default().element("jobs", 1).key("retry");
    assert_eq!(document.place(&path), Place { line: 21, column: 5 });
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_text_is_read_or_refused_without_a_panic(text in "[-a-z0-9:&*!|>'\"{}\\[\\], \n\t#?%@`<~\\\\ü]{0,200}") {
        let _ = read(&text, Format::Yaml);
        let _ = read(&text, Format::Json);
    }
}
