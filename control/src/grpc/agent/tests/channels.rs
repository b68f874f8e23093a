//! Both channels: what is pushed, what is answered, what happens when one breaks.

use super::super::super::testing::{BOTH, Heard, Link, Over, Place};
use super::*;
use crate::engine::tests::eventually;
use crate::engine::{LEASE, OfRun};

const TRIES: &str = "jobs: [{name: j, retry: {max_attempts: 2}, steps: [{name: s, uses: shell}]}]";

async fn open(place: &Place, over: Over, agent: &str) -> Link {
    Link::open(place, over, agent).await.unwrap()
}

#[tokio::test]
async fn work_is_pushed_as_soon_as_there_is_some_and_again_when_a_place_is_free() {
    for place in Place::all().await {
        for over in BOTH {
            let x = place.agent(&[], 1).await;
            let mut link = open(&place, over, &x).await;
            place.bench.run(DIAMOND).await;
            // The diamond has a, then b and c at once, then d: at one place one after the other.
            let (mut names, mut next) = (Vec::new(), None);
            for _ in 0..5 {
                let step = match next.take() {
                    Some(step) => step,
                    None => Box::new(link.work().await),
                };
                names.push(format!("{}.{}", step.job_name, step.step_name));
                assert!(link.start(&step.step_run_id).await);
                let request = link.report(&step.step_run_id, S::Success).await;
                // The yes and the next work come from two tasks.
                loop {
                    match link.hear().await {
                        Heard::Work(step) => next = Some(step),
                        heard => break assert_eq!(heard, Heard::Yes(request), "{over:?}"),
                    }
                }
            }
            assert_eq!(names, ["a.s", "a.t", "b.s", "c.s", "d.s"]);
            eventually(async || place.bench.number("SELECT COUNT(*) FROM t_pipeline_run WHERE status = 2").await == 0).await;
            place.agents.unregister(&x, "").await.unwrap();
        }
    }
}

#[tokio::test]
async fn agents_on_channels_share_the_work_by_their_labels_and_their_room() {
    let place = Place::one().await;
    let (linux, mac, idle) = (
        place.agent(&[("os", "linux")], 2).await,
        place.agent(&[("os", "mac")], 9).await,
        place.agent(&[("os", "other")], 9).await,
    );
    let mut links = Vec::new();
    for (agent, over) in [(&linux, Over::Connect), (&mac, Over::AgentChannel), (&idle, Over::Connect)] {
        links.push(open(&place, over, agent).await);
    }
    let job = |name: &str, os: &str| {
        format!("{{name: {name}, steps: [{{name: s, uses: shell, agent_selector: {{match_labels: {{os: {os}}}}}}}]}}")
    };
    let jobs = [job("a", "linux"), job("b", "linux"), job("c", "linux"), job("d", "mac"), job("e", "mac")].join(", ");
    place.bench.run(&format!("jobs: [{jobs}]")).await;
    let mut given = Vec::new();
    for link in [0, 0, 1, 1] {
        given.push(links[link].work().await);
    }
    let mut names: Vec<_> = given.iter().map(|step| &*step.job_name).collect();
    names[..2].sort_unstable();
    names[2..].sort_unstable();
    assert_eq!(names, ["a", "b", "d", "e"]);
    // A free place takes the one that waits.
    links[0].report(&given[0].step_run_id, S::Success).await;
    let heard = [links[0].hear().await, links[0].hear().await];
    assert!(heard.iter().any(|heard| matches!(heard, Heard::Work(step) if step.job_name == "c")), "{heard:?}");
    assert_eq!(place.bench.number("SELECT COUNT(*) FROM t_step_run WHERE status = 2 AND agent_id = ''").await, 0);
}

#[tokio::test]
async fn what_must_not_go_on_is_cancelled_at_its_agent() {
    for place in Place::all().await {
        for over in BOTH {
            let x = place.agent(&[], 9).await;
            let mut link = open(&place, over, &x).await;
            let run = place.bench.run(ONE).await;
            let step = link.work().await.step_run_id;
            assert!(link.start(&step).await);
            place.bench.engine.run(&run, OfRun::Cancel("enough".into())).await.unwrap();
            assert_eq!(link.hear().await, Heard::Stop(step.clone(), String::new()));
            let request = link.report(&step, S::Cancelled).await;
            assert_eq!(link.hear().await, Heard::Yes(request));
            assert_eq!(place.bench.status(&run).await, PipelineStatus::Cancelled);

            // It was handed out and has not started: then it must not.
            let run = place.bench.run(ONE).await;
            let step = link.work().await.step_run_id;
            place.bench.engine.run(&run, OfRun::Cancel("enough".into())).await.unwrap();
            assert_eq!(link.hear().await, Heard::Stop(step.clone(), String::new()));
            assert!(!link.start(&step).await);
            place.agents.unregister(&x, "").await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_second_channel_takes_the_place_of_the_first() {
    for place in Place::all().await {
        for over in BOTH {
            let x = place.agent(&[], 9).await;
            let mut first = open(&place, over, &x).await;
            let mut second = open(&place, over, &x).await;
            let status = first.end().await;
            assert!(status.code() == Code::Aborted && status.message().contains("another channel"), "{status:?}");
            drop(first);
            place.bench.run(ONE).await;
            let step = second.work().await;
            assert!(second.start(&step.step_run_id).await);
            place.agents.unregister(&x, "").await.unwrap();
        }
    }
}

#[tokio::test]
async fn an_agent_that_comes_again_keeps_what_it_names_hears_of_the_rest_and_loses_what_it_forgot() {
    for mut place in Place::all().await {
        for over in BOTH {
            let x = place.agent(&[], 4).await;
            let mut link = open(&place, over, &x).await;
            let runs = [place.bench.run(TRIES).await, place.bench.run(ONE).await, place.bench.run(ONE).await];
            let mut steps = std::collections::HashMap::new();
            for _ in 0..3 {
                let step = link.work().await;
                steps.insert(step.pipeline_run_id.clone(), step.step_run_id);
            }
            let [forgotten, kept, unstarted] = [&steps[&runs[0]], &steps[&runs[1]], &steps[&runs[2]]];
            assert!(link.start(forgotten).await && link.start(kept).await);
            drop(link);
            place = place.restart().await;
            place.bench.clock.advance(LEASE - 1);
            let mut link = open(&place, over, &x).await;
            // What it was given and did not start it hears of again, with time to start it.
            assert_eq!(link.work().await.step_run_id, *unstarted);
            place.bench.pass(LEASE - 1).await;
            assert!(link.start(unstarted).await);
            assert!(link.start(kept).await, "a repeat of what it said is no news");
            let request = link.alive(2, 4).await;
            // What it did not name is lost, and tried again as its policy says.
            let mut again = None;
            let mut answered = false;
            while again.is_none() || !answered {
                match link.hear().await {
                    Heard::Work(step) => again = Some(step.step_run_id),
                    Heard::Alive(answers) | Heard::Yes(answers) => answered |= answers == request,
                    other => panic!("{other:?}"),
                }
                place.bench.pass(0).await;
            }
            assert_ne!(again.as_ref(), Some(forgotten));
            assert!(!link.start(forgotten).await);
            for (id, run) in [(kept, &runs[1]), (unstarted, &runs[2]), (&again.unwrap(), &runs[0])] {
                link.report(id, S::Success).await;
                assert!(matches!(link.hear().await, Heard::Yes(_)));
                assert_eq!(place.bench.status(run).await, PipelineStatus::Success);
            }
            place.agents.unregister(&x, "").await.unwrap();
        }
    }
}

#[tokio::test]
async fn an_agent_that_executes_more_than_it_named_loses_nothing() {
    let place = Place::one().await;
    let x = place.agent(&[], 4).await;
    let run = place.bench.run(ONE).await;
    let step = place.fetch(&x, 1).await.remove(0).step_run_id;
    assert!(place.report(&x, &step, S::Running).await.unwrap());
    place.bench.clock.advance(1);
    let mut link = open(&place, Over::Connect, &x).await;
    let request = link.alive(1, 4).await;
    assert_eq!(link.hear().await, Heard::Yes(request));
    assert!(place.report(&x, &step, S::Success).await.unwrap());
    assert_eq!(place.bench.status(&run).await, PipelineStatus::Success);
}

#[tokio::test]
async fn an_agent_hears_again_what_it_is_to_end() {
    for over in BOTH {
        let place = Place::one().await;
        let x = place.agent(&[], 4).await;
        let run = place.bench.run(ONE).await;
        let step = place.fetch(&x, 1).await.remove(0).step_run_id;
        assert!(place.report(&x, &step, S::Running).await.unwrap());
        place.bench.engine.run(&run, OfRun::Cancel("enough".into())).await.unwrap();
        let mut link = open(&place, over, &x).await;
        assert_eq!(link.hear().await, Heard::Stop(step, String::new()));
    }
}

#[tokio::test]
async fn a_channel_tells_settings_answers_requests_for_work_and_ends_when_its_agent_counts_as_gone() {
    let place = Place::one().await;
    let x = place.agent(&[], 4).await;
    let mut link = open(&place, Over::AgentChannel, &x).await;
    assert_eq!(link.next().await.unwrap(), Some(Heard::Config { interval: 60, most: 0 }));
    let request = link.fetch(3).await;
    assert_eq!(link.next().await.unwrap(), Some(Heard::NoWork(request)));
    place.agents.allow(&x, Some(1)).await.unwrap();
    assert_eq!(link.next().await.unwrap(), Some(Heard::Config { interval: 60, most: 1 }));
    let pipeline = place.bench.pipeline(ONE).await;
    place.bench.trigger(&pipeline).await;
    place.bench.trigger(&pipeline).await;
    let step = link.work().await;
    let request = link.fetch(3).await;
    assert_eq!(link.next().await.unwrap(), Some(Heard::NoWork(request)), "one is allowed, and it has one");
    place.agents.allow(&x, None).await.unwrap();
    assert_ne!(link.work().await.step_run_id, step.step_run_id);
    let request = link.alive(2, 4).await;
    assert_eq!(link.hear().await, Heard::Alive(request));
    place.bench.pass(180_000).await;
    let status = link.end().await;
    assert!(status.code() == Code::Unavailable && status.message().contains("180 seconds"), "{status:?}");
}

#[tokio::test]
async fn a_step_run_that_its_agent_cannot_take_has_failed() {
    let place = Place::one().await;
    let x = place.agent(&[], 4).await;
    let mut link = open(&place, Over::Connect, &x).await;
    let run = place.bench.run(ONE).await;
    let step = link.work().await.step_run_id;
    link.refuse(&step).await;
    eventually(async || place.bench.status(&run).await == PipelineStatus::Failed).await;
    let told = place.bench.texts("SELECT error_message FROM t_step_run").await;
    assert_eq!(told, ["the agent did not take it: no disk"]);
}

#[tokio::test]
async fn a_channel_is_its_agents_own_and_needs_one_that_is_known() {
    let place = Place::one().await;
    for over in BOTH {
        let unknown = Link::open(&place, over, "nobody").await.err().unwrap();
        assert_eq!(unknown.code(), Code::NotFound);
        let x = place.agent(&[], 4).await;
        let mut link = open(&place, over, &x).await;
        link.agent = "other".into();
        link.alive(0, 1).await;
        assert_eq!(link.end().await.code(), Code::PermissionDenied);
        let mut link = open(&place, over, &x).await;
        link.report("none", S::Unspecified).await;
        assert_eq!(link.end().await.code(), Code::InvalidArgument);
    }
    assert_eq!(
        place.calls("user admin").connect(futures_util::stream::empty()).await.unwrap_err().code(),
        Code::PermissionDenied
    );
}

#[tokio::test]
async fn an_agent_that_does_not_read_is_cut_off_and_its_step_runs_go_to_others() {
    let place = Place::one().await;
    let (x, y) = (place.agent(&[("name", "x")], 2_000).await, place.agent(&[("name", "y")], 2_000).await);
    let mut deaf = open(&place, Over::Connect, &x).await;
    // Each is larger than what a connection holds back.
    let script = "x".repeat(80_000);
    let jobs: Vec<_> =
        (0..4).map(|job| format!("{{name: j{job}, steps: [{{name: s, uses: shell, args: {{script: {script}}}}}]}}")).collect();
    let text = format!("jobs: [{}]", jobs.join(", "));
    let pipeline = place.bench.pipeline(&text).await;
    for _ in 0..85 {
        place.bench.trigger(&pipeline).await;
    }
    eventually(async || !place.agents.channels().is_open(&x)).await;
    let status = deaf.end().await;
    assert!(status.code() == Code::ResourceExhausted && status.message().contains("does not read"), "{status:?}");
    place.bench.pass(LEASE).await;
    place.bench.pass(0).await;
    assert!(!place.fetch(&y, 1).await.is_empty());
}
