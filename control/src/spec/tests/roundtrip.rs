//! Whatever a definition says, writing and reading it again gives the same.

use super::*;

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => "[a-z0-9_-]{0,8}",
        1 => any::<String>(),
        2 => "[ \\t\\n\\r:#'\"|>&*!%@`{}\\[\\],?~=<.a-c0-9-]{0,12}",
        1 => "([a-c]{0,3} ?\n){1,4}",
        1 => prop::sample::select(vec!["yes", "null", "1.0", "0x1f", "<<", "---", "...", "\u{feff}a", "\u{85}", "\u{2028}", "a\r\nb", "- x", "\u{0}"])
            .prop_map(str::to_owned),
    ]
}

fn map() -> impl Strategy<Value = HashMap<String, String>> {
    prop::collection::hash_map(text(), text(), 0..3)
}

fn json() -> impl Strategy<Value = prost_types::Value> {
    use prost_types::value::Kind;
    let leaf = prop_oneof![
        Just(Kind::NullValue(0)),
        any::<bool>().prop_map(Kind::BoolValue),
        any::<i32>().prop_map(|number| Kind::NumberValue(f64::from(number))),
        (-1e300..1e300).prop_map(Kind::NumberValue),
        (-1.0..1.0).prop_map(Kind::NumberValue),
        prop::sample::select(vec![1e16, -9e15, 1e-7, 5e-324, f64::MAX, 9_007_199_254_740_993.0]).prop_map(Kind::NumberValue),
        text().prop_map(Kind::StringValue),
    ]
    .prop_map(|kind| prost_types::Value { kind: Some(kind) });
    leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(|values| Kind::ListValue(prost_types::ListValue { values })),
            prop::collection::btree_map(text(), inner, 0..3).prop_map(|fields| Kind::StructValue(prost_types::Struct { fields })),
        ]
        .prop_map(|kind| prost_types::Value { kind: Some(kind) })
    })
}

fn object() -> impl Strategy<Value = Option<prost_types::Struct>> {
    prop::option::of(prop::collection::btree_map(text(), json(), 0..3).prop_map(|fields| prost_types::Struct { fields }))
}

fn selector() -> impl Strategy<Value = pb::AgentSelector> {
    let expression = (text(), text(), prop::collection::vec(text(), 0..3));
    let expression = expression.prop_map(|(key, operator, values)| pb::LabelExpression { key, operator, values });
    (map(), prop::collection::vec(expression, 0..2))
        .prop_map(|(match_labels, match_expressions)| pb::AgentSelector { match_labels, match_expressions })
}

fn step() -> impl Strategy<Value = pb::Step> {
    let texts = (text(), text(), text(), text(), text());
    (texts, object(), map(), any::<bool>(), prop::option::of(selector()), any::<bool>()).prop_map(
        |((name, uses, action, timeout, when), args, env, continue_on_error, agent_selector, run_on_agent)| pb::Step {
            name,
            uses,
            action,
            args,
            env,
            continue_on_error,
            timeout,
            when,
            agent_selector,
            run_on_agent,
        },
    )
}

fn triggers() -> impl Strategy<Value = Vec<pb::Trigger>> {
    prop::collection::vec((text(), object()).prop_map(|(r#type, options)| pb::Trigger { r#type, options }), 0..2)
}

fn item() -> impl Strategy<Value = Option<pb::NotifyItem>> {
    prop::option::of((text(), text(), object()).prop_map(|(plugin, action, params)| pb::NotifyItem { plugin, action, params }))
}

fn source() -> impl Strategy<Value = pb::Source> {
    let auth = (text(), text(), text()).prop_map(|(username, password, token)| pb::SourceAuth { username, password, token });
    (text(), text(), text(), prop::option::of(auth)).prop_map(|(r#type, repo, branch, auth)| pb::Source {
        r#type,
        repo,
        branch,
        auth,
    })
}

fn job() -> impl Strategy<Value = pb::Job> {
    let approval = (any::<bool>(), text(), text(), object()).prop_map(|(required, r#type, plugin, params)| pb::Approval {
        required,
        r#type,
        plugin,
        params,
    });
    let target = (text(), object()).prop_map(|(r#type, config)| pb::Target { r#type, config });
    let retry = (any::<i32>(), text()).prop_map(|(max_attempts, delay)| pb::Retry { max_attempts, delay });
    let notify = (item(), item()).prop_map(|(on_success, on_failure)| pb::Notify { on_success, on_failure });
    let texts = (text(), text(), text(), text(), text(), map());
    let parts = (prop::option::of(approval), prop::option::of(target), prop::option::of(retry), prop::option::of(notify));
    let lists = (prop::collection::vec(step(), 0..3), triggers(), prop::collection::vec(text(), 0..3));
    (texts, parts, prop::option::of(source()), lists).prop_map(
        |(
            (name, description, concurrency, timeout, when, env),
            (approval, target, retry, notify),
            source,
            (steps, triggers, depends_on),
        )| {
            pb::Job {
                name,
                description,
                env,
                concurrency,
                timeout,
                retry,
                when,
                source,
                approval,
                steps,
                target,
                notify,
                triggers,
                depends_on,
            }
        },
    )
}

fn spec() -> impl Strategy<Value = Spec> {
    let resources = (text(), text(), text(), text()).prop_map(|(cpu_request, cpu_limit, memory_request, memory_limit)| {
        pb::Resources { cpu_request, cpu_limit, memory_request, memory_limit }
    });
    let runtime = (text(), text(), map(), prop::option::of(resources), object())
        .prop_map(|(r#type, image, env, resources, config)| pb::Runtime { r#type, image, env, resources, config });
    let jobs = prop::collection::vec(job(), 0..3);
    (text(), text(), map(), prop::option::of(runtime), object(), jobs, triggers())
        .prop_map(|(namespace, version, variables, runtime, meta, jobs, triggers)| Spec {
            namespace,
            version,
            variables,
            runtime,
            meta,
            jobs,
            triggers,
        })
        .prop_filter("an empty text is no definition", |spec| *spec != Spec::default())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_definition_written_and_read_again_is_the_same(spec in spec()) {
        for format in [Format::Json, Format::Yaml] {
            let text = write(&spec, format);
            let again = read(&text, format).map(|document| document.spec);
            prop_assert_eq!(again.as_ref(), Ok(&spec), "{}", text);
        }
    }
}
