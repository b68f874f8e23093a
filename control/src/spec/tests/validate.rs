//! What is read and makes no pipeline.

use super::*;

fn report(text: &str) -> Report {
    read(text, Format::Yaml).unwrap().validate()
}

fn wrong(text: &str) -> Vec<String> {
    report(text).problems.iter().map(ToString::to_string).collect()
}

fn warnings(text: &str) -> Vec<String> {
    report(text).warnings.iter().map(ToString::to_string).collect()
}

/// A pipeline of one job with one step, with more keys for both.
fn with(job: &str, step: &str) -> String {
    format!(
        "namespace: a\nvariables: {{N: '5'}}\njobs:\n- name: j\n  {job}\n  steps:\n  - name: s\n    uses: shell\n    {step}\n"
    )
}

#[test]
fn a_good_definition_has_no_problems() {
    assert_eq!(report(GOOD), Report::default());
}

#[test]
fn all_mistakes_are_told_in_the_order_of_the_text() {
    let text = "
namespace: a b
version: 1.x.0
jobs:
- name: one
  steps: [{name: s, uses: shell}, {name: s, uses: actions/x@v1}]
- name: one
  steps: []
- steps: [{}]
";
    assert_eq!(
        wrong(text),
        [
            "line 2, column 1: namespace 'a b' is invalid; use letters, digits, '_' and '-', at most 128",
            "line 3, column 1: version '1.x.0' is invalid; write it as 1.2.3 or 1.2.3-rc1",
            "line 6, column 36: job[0] 'one': duplicate step name 's' at index 0 and 1",
            "line 6, column 45: job[0] 'one': step[1] 's': uses 'actions/x@v1' is invalid; write a plugin's name, or name@1.2.3",
            "line 7, column 3: duplicate job name 'one' at index 0 and 1",
            "line 8, column 3: job[1] 'one': job must have at least one step",
            "line 9, column 3: job[2]: name is required",
            "line 9, column 11: job[2]: step[0]: name is required",
            "line 9, column 11: job[2]: step[0]: uses is required",
        ]
    );
    assert_eq!(
        wrong("meta: {}"),
        ["line 1, column 1: namespace is required", "line 1, column 1: pipeline must have at least one job"]
    );
}

#[test]
fn each_field_has_its_rule() {
    for (job, step, message) in [
        (
            "timeout: 5 minutes",
            "",
            "line 5, column 3: job[0] 'j': timeout '5 minutes' is no duration; write it as 30s, 5m or 1h30m (units: ns, us, ms, s, m, h)",
        ),
        ("timeout: -1s", "", "line 5, column 3: job[0] 'j': timeout '-1s' is negative; a duration is at least 0s"),
        ("", "timeout: 0s", "line 9, column 5: job[0] 'j': step[0] 's': timeout '0s' is zero; leave it out for no limit"),
        ("retry: {}", "", "line 5, column 3: job[0] 'j': retry.max_attempts must be greater than 0"),
        ("retry: {max_attempts: 101}", "", "line 5, column 11: job[0] 'j': retry.max_attempts is 101; at most 100 are allowed"),
        (
            "retry: {max_attempts: 2, delay: x}",
            "",
            "line 5, column 28: job[0] 'j': retry.delay 'x' is no duration; write it as 30s, 5m or 1h30m (units: ns, us, ms, s, m, h)",
        ),
        (
            "when: N > 3",
            "",
            "line 5, column 3: job[0] 'j': when: '>' does not fit text and a whole number; variables are text: compare with text in quotes, or use int(…) (at column 3 of the condition)",
        ),
        (
            "when: M == 'x'",
            "",
            "line 5, column 3: job[0] 'j': when: the name 'M' is unknown; declare it in the pipeline's variables; known: N, branch, env, event, job (at column 1 of the condition)",
        ),
        (
            "",
            "when: N",
            "line 9, column 5: job[0] 'j': step[0] 's': when: the condition must be true or false, but it is text (at column 1 of the condition)",
        ),
        ("dependsOn: [J]", "", "line 5, column 15: job[0] 'j': dependsOn names the unknown job 'J'"),
        ("source: {type: git}", "", "line 5, column 3: job[0] 'j': source.repo is required"),
        (
            "approval: {required: true, plugin: a b}",
            "",
            "line 5, column 30: job[0] 'j': approval.plugin 'a b' is invalid; write a plugin's name, or name@1.2.3",
        ),
        ("notify: {on_failure: {}}", "", "line 5, column 12: job[0] 'j': notify.on_failure.plugin is required"),
        (
            "",
            "run_on_agent: true\n    agent_selector: {}",
            "line 10, column 5: job[0] 'j': step[0] 's': agent_selector must have match_labels or match_expressions",
        ),
        (
            "",
            "run_on_agent: true\n    agent_selector: {match_expressions: [{key: a, operator: Is}]}",
            "line 10, column 42: job[0] 'j': step[0] 's': agent_selector.match_expressions[0]: 'Is' is no operator; known: In, NotIn, Exists, NotExists, Gt, Lt",
        ),
    ] {
        assert_eq!(wrong(&with(job, step)), [message]);
    }
}

#[test]
fn unknown_names_and_circles_in_depends_on_are_named() {
    let job =
        |name: &str, before: &str| format!("- {{name: {name}, dependsOn: [{before}], steps: [{{name: s, uses: shell}}]}}\n");
    let jobs = [job("build", "tset"), job("test", "deploy"), job("lint", "test"), job("deploy", "lint"), job("me", "me")];
    assert_eq!(
        wrong(&format!("namespace: a\njobs:\n{}", jobs.concat())),
        [
            "line 3, column 29: job[0] 'build': dependsOn names the unknown job 'tset'; did you mean test?",
            "line 4, column 16: job[1] 'test': jobs depend on one another in a circle: test → deploy → lint → test",
            "line 7, column 14: job[4] 'me': jobs depend on one another in a circle: me → me",
        ]
    );
}

#[test]
fn triggers_are_checked_with_their_options() {
    let text = with("", "")
        + "triggers:\n- type: manual\n- type: corn\n- type: cron\n  options: {expression: '61 * * * *'}\n- type: event\n  options: {brnch: main}\n";
    let told = wrong(&text);
    assert_eq!(told.len(), 3);
    assert_eq!(told[0], "line 12, column 3: trigger[1]: 'corn' is no type of trigger; did you mean cron?");
    assert!(told[1].starts_with("line 14, column 13: trigger[2]: '61 * * * *' is no cron expression: "), "{}", told[1]);
    assert_eq!(told[2], "line 16, column 13: trigger[3]: 'brnch' is no option of the type event; did you mean branch?");
}

#[test]
fn what_is_allowed_but_hardly_meant_is_a_warning() {
    for (job, step, message) in [
        ("when: 'false'", "", "line 5, column 3: job[0] 'j': the job can never run: its when never holds"),
        ("when: failure()", "", "line 5, column 3: job[0] 'j': the job can never run: its when never holds"),
        ("", "when: failure()", "line 9, column 5: job[0] 'j': step[0] 's': the step can never run: its when never holds"),
        (
            "timeout: 1m",
            "timeout: 2m",
            "line 9, column 5: job[0] 'j': step[0] 's': timeout '2m' is longer than its job's, which ends it first",
        ),
        (
            "retry: {max_attempts: 1, delay: 5s}",
            "",
            "line 5, column 28: job[0] 'j': retry.delay does nothing: max_attempts 1 is the first attempt alone",
        ),
        (
            "triggers: [{type: manual}]",
            "",
            "line 5, column 3: job[0] 'j': triggers of a job do nothing; write them at the pipeline",
        ),
        ("approval: {plugin: slack}", "", "line 5, column 3: job[0] 'j': approval does nothing unless required is true"),
        (
            "source: {type: svn, repo: x}",
            "",
            "line 5, column 12: job[0] 'j': source.type 'svn' is unknown; it is fetched with git",
        ),
    ] {
        let text = with(job, step);
        assert_eq!((wrong(&text), warnings(&text)), (vec![], vec![message.to_owned()]));
    }
}

#[test]
fn a_definition_that_came_as_a_message_is_checked_without_places() {
    let mut spec = read(GOOD, Format::Yaml).unwrap().spec;
    let infinite = prost_types::Value { kind: Some(prost_types::value::Kind::NumberValue(f64::INFINITY)) };
    spec.jobs[0].steps[0].args.as_mut().unwrap().fields.insert("x".into(), infinite);
    let report = validate(&spec);
    assert_eq!(report.problems.len(), 1);
    assert_eq!((report.problems[0].place, report.problems[0].path.to_string().as_str()), (None, "jobs[0].steps[0].args"));
    spec.jobs = vec![pb::Job::default(); MAX_JOBS + 1];
    assert!(validate(&spec).problems[0].message.starts_with("the pipeline has 1001 jobs with 0 steps"));
}
