//! Each call with its good case, what it refuses, and whom, on each kind of database.

use std::sync::Arc;

use tonic::Code;

use super::*;
use crate::agents::Caller;
use crate::db::tests::fresh;
use crate::engine::StillClock;
use crate::spec::Format;

const BEGIN: i64 = 1_790_000_000;

/// The service on each kind of database.
async fn services() -> Vec<(PipelineCalls, crate::db::tests::Fresh)> {
    let mut all = Vec::new();
    for fresh in fresh().await {
        let clock = StillClock::at(BEGIN * 1000);
        let (engine, _) = Engine::start(fresh.database.clone(), Arc::new(clock)).await.unwrap();
        all.push((PipelineCalls::new(engine), fresh));
    }
    all
}

/// A person's request.
fn of<T>(role: Role, message: T) -> Request<T> {
    from(Some(Caller::User { name: "tess".into(), role }), message)
}

fn from<T>(caller: Option<Caller>, message: T) -> Request<T> {
    let mut request = Request::new(message);
    if let Some(caller) = caller {
        request.extensions_mut().insert(caller);
    }
    request
}

/// The answer to a call of somebody who may do everything.
macro_rules! call {
    ($service:expr, $call:ident, $request:expr) => {
        $service.$call(of(Role::Admin, $request)).await.unwrap().into_inner()
    };
}

/// The code and the message of a refusal.
macro_rules! refused {
    ($service:expr, $call:ident, $request:expr) => {{
        let answer = call!($service, $call, $request);
        let error = answer.error.unwrap();
        assert!(!answer.success && answer.message == error.message);
        let kind = match error.code {
            400 => "validation",
            404 => "not_found",
            409 => "conflict",
            code => panic!("{code}"),
        };
        assert_eq!(error.r#type, kind);
        (error.code, error.message)
    }};
}

fn draft() -> pb::CreatePipelineRequest {
    pb::CreatePipelineRequest {
        project_id: "p".into(),
        name: "Build 100%".into(),
        pipeline_file_path: "/ci/build.yaml".into(),
        metadata: [("team".to_owned(), "core".to_owned())].into(),
        created_by: "ann".into(),
        ..Default::default()
    }
}

fn spec(text: &str) -> Option<Spec> {
    Some(crate::spec::read(text, Format::Yaml).unwrap().spec)
}

const GOOD: &str = "namespace: ns\nvariables: {A: '1'}\njobs: [{name: j, steps: [{name: s, uses: shell}]}]";
const BAD: &str = "namespace: ns\njobs: [{name: j, dependsOn: [k], steps: [{name: s, uses: shell}]}]";

async fn pipeline(service: &PipelineCalls) -> String {
    let created = call!(service, create_pipeline, draft());
    assert_eq!((created.success, &*created.message), (true, "pipeline created"));
    let saved = call!(service, save_pipeline_spec, save(&created.pipeline_id, GOOD, ""));
    assert!(saved.success, "{saved:?}");
    created.pipeline_id
}

fn save(pipeline_id: &str, text: &str, expected: &str) -> pb::SavePipelineSpecRequest {
    pb::SavePipelineSpecRequest {
        pipeline_id: pipeline_id.into(),
        spec: spec(text),
        expected_head_commit_sha: expected.into(),
        editor: "bob".into(),
        ..Default::default()
    }
}

fn trigger(pipeline_id: &str, request_id: &str) -> pb::TriggerPipelineRequest {
    let variables = [("A".to_owned(), "2".to_owned())].into();
    pb::TriggerPipelineRequest {
        pipeline_id: pipeline_id.into(),
        request_id: request_id.into(),
        variables,
        triggered_by: "ann".into(),
    }
}

fn get(pipeline_id: &str) -> pb::GetPipelineRequest {
    pb::GetPipelineRequest { pipeline_id: pipeline_id.into() }
}

#[tokio::test]
async fn a_pipeline_is_created_read_changed_and_deleted() {
    for (service, _fresh) in services().await {
        let id = call!(service, create_pipeline, draft()).pipeline_id;
        let found = call!(service, get_pipeline, get(&id)).pipeline.unwrap();
        assert_eq!((&*found.name, &*found.pipeline_file_path, &*found.default_branch), ("Build 100%", "ci/build.yaml", "main"));
        assert_eq!(
            (found.status(), found.save_mode(), found.is_enabled),
            (pb::PipelineStatus::Pending, pb::PipelineSaveMode::Direct, 1)
        );
        assert_eq!((found.created_at, &*found.metadata["team"], &*found.created_by), (BEGIN, "core", "ann"));

        let change = |name: &str, is_enabled| pb::UpdatePipelineRequest {
            pipeline_id: id.clone(),
            name: name.into(),
            is_enabled,
            ..Default::default()
        };
        assert_eq!(call!(service, update_pipeline, change("", 0)).message, "no changes");
        assert_eq!(call!(service, update_pipeline, change("other", -1)).message, "pipeline updated");
        let found = call!(service, get_pipeline, get(&id)).pipeline.unwrap();
        assert_eq!((&*found.name, found.is_enabled, &*found.metadata["team"]), ("other", 0, "core"));
        assert_eq!(refused!(service, update_pipeline, change("", 7)).0, 400);

        let delete = || pb::DeletePipelineRequest { pipeline_id: id.clone() };
        assert_eq!(call!(service, delete_pipeline, delete()).message, "pipeline deleted");
        assert_eq!(refused!(service, get_pipeline, get(&id)).0, 404);
        assert_eq!(refused!(service, delete_pipeline, delete()).0, 404);
        assert_eq!(refused!(service, update_pipeline, change("x", 0)).0, 404);
        assert_eq!(refused!(service, trigger_pipeline, trigger(&id, "")).0, 404);
        assert_eq!(refused!(service, get_pipeline, get("")), (400, "pipelineId is required".into()));
        let missing = pb::CreatePipelineRequest { name: String::new(), ..draft() };
        assert_eq!(
            refused!(service, create_pipeline, missing),
            (400, "projectId, name and pipelineFilePath are required".into())
        );
        let command = pb::CreatePipelineRequest { repo_url: "ext::sh -c id".into(), ..draft() };
        assert!(refused!(service, create_pipeline, command).1.starts_with("repo_url: "));
        let by_request = pb::CreatePipelineRequest { save_mode: pb::PipelineSaveMode::Pr.into(), ..draft() };
        assert!(refused!(service, create_pipeline, by_request).1.starts_with("save_mode"));
    }
}

#[tokio::test]
async fn pipelines_are_listed_by_pages_and_filters_newest_first() {
    for (service, _fresh) in services().await {
        for number in 0..25 {
            let project_id = if number < 5 { "q" } else { "p" }.to_owned();
            call!(service, create_pipeline, pb::CreatePipelineRequest { name: format!("N{number}_100%"), project_id, ..draft() });
        }
        let list = |project: &str, name: &str, page, page_size| pb::ListPipelinesRequest {
            project_id: project.into(),
            name: name.into(),
            page,
            page_size,
            ..Default::default()
        };
        let all = call!(service, list_pipelines, list("", "", 0, 0));
        assert_eq!((all.total, all.page, all.page_size, all.pipelines.len()), (25, 1, 20, 20));
        assert_eq!(call!(service, list_pipelines, list("", "", 2, 0)).pipelines.len(), 5);
        assert_eq!(call!(service, list_pipelines, list("", "", 1, 1000)).page_size, 100);
        assert_eq!(call!(service, list_pipelines, list("q", "", 1, 0)).total, 5);
        assert_eq!(call!(service, list_pipelines, list("", "n2", 1, 0)).total, 6);
        assert_eq!(call!(service, list_pipelines, list("", "_100%", 1, 0)).total, 25);
        assert_eq!(call!(service, list_pipelines, list("", "n%0", 1, 0)).total, 0);
    }
}

#[tokio::test]
async fn a_definition_is_saved_as_revisions_and_nobody_overwrites_what_they_have_not_seen() {
    for (service, _fresh) in services().await {
        let id = call!(service, create_pipeline, draft()).pipeline_id;
        let head = |id: &str| pb::GetPipelineSpecRequest { pipeline_id: id.into() };
        assert_eq!(refused!(service, get_pipeline_spec, head(&id)).0, 404);
        assert_eq!(refused!(service, trigger_pipeline, trigger(&id, "")).0, 409);

        let first = call!(service, save_pipeline_spec, save(&id, GOOD, ""));
        assert_eq!((&*first.message, first.commit_sha.len(), &*first.branch), ("spec saved", 40, "main"));
        let changed = GOOD.replace("'1'", "'2'");
        let second = call!(service, save_pipeline_spec, save(&id, &changed, &first.commit_sha));
        assert_ne!(first.commit_sha, second.commit_sha);
        let late = call!(service, save_pipeline_spec, save(&id, GOOD, &first.commit_sha));
        let error = late.error.unwrap();
        let current = error.details.unwrap().fields["currentHeadCommitSha"].kind.clone();
        assert_eq!((error.code, current), (409, Some(prost_types::value::Kind::StringValue(second.commit_sha.clone()))));

        let found = call!(service, get_pipeline_spec, head(&id));
        assert_eq!((found.format(), &*found.pipeline_file_path), (pb::SpecFormat::Yaml, "ci/build.yaml"));
        assert_eq!((found.spec, &found.head_commit_sha, &*found.branch), (spec(&changed), &second.commit_sha, "main"));
        let detail = call!(service, get_pipeline, get(&id)).pipeline.unwrap();
        assert_eq!(
            (detail.last_commit_sha, &*detail.last_editor, detail.last_synced_at),
            (second.commit_sha.clone(), "bob", BEGIN)
        );

        let request = || pb::SavePipelineSpecRequest { request_id: "r".into(), ..save(&id, GOOD, &second.commit_sha) };
        let third = call!(service, save_pipeline_spec, request());
        let again = call!(service, save_pipeline_spec, request());
        assert_eq!((&*again.message, &again.commit_sha), ("idempotent request", &third.commit_sha));

        let (code, message) = refused!(service, save_pipeline_spec, save(&id, BAD, ""));
        assert!(code == 400 && message.starts_with("spec validation failed: ") && message.contains("'k'"), "{message}");
        assert_eq!(refused!(service, save_pipeline_spec, save("none", GOOD, "")).0, 404);
        let nothing = pb::SavePipelineSpecRequest { spec: None, ..request() };
        assert_eq!(refused!(service, save_pipeline_spec, nothing), (400, "pipelineId and spec are required".into()));
    }
}

#[tokio::test]
async fn a_definition_is_checked_without_being_saved() {
    for (service, _fresh) in services().await {
        let ask = |pipeline_id: &str, text: Option<&str>| pb::ValidatePipelineSpecRequest {
            pipeline_id: pipeline_id.into(),
            spec: text.and_then(spec),
            ..Default::default()
        };
        let good = call!(service, validate_pipeline_spec, ask("", Some(GOOD)));
        assert_eq!((good.success, good.jobs_count, &*good.message), (true, 1, "spec is valid"));
        let bad = call!(service, validate_pipeline_spec, ask("", Some(BAD)));
        let details = bad.error.unwrap().details.unwrap();
        assert!(format!("{details:?}").contains("jobs[0].dependsOn"), "{details:?}");
        assert_eq!(refused!(service, validate_pipeline_spec, ask("", None)), (400, "spec is required".into()));
        assert_eq!(refused!(service, validate_pipeline_spec, ask("none", None)).0, 404);
        let id = pipeline(&service).await;
        assert!(call!(service, validate_pipeline_spec, ask(&id, None)).success);
    }
}

#[tokio::test]
async fn a_run_is_triggered_paused_resumed_stopped_and_listed() {
    for (service, _fresh) in services().await {
        let id = pipeline(&service).await;
        let first = call!(service, trigger_pipeline, trigger(&id, "r"));
        assert_eq!(&*first.message, "pipeline triggered");
        let again = call!(service, trigger_pipeline, trigger(&id, "r"));
        assert_eq!((&*again.message, &again.run_id), ("idempotent request", &first.run_id));
        assert_eq!(refused!(service, trigger_pipeline, trigger("", "")).0, 400);
        assert_eq!(refused!(service, trigger_pipeline, trigger("none", "")).0, 404);
        let run = |run_id: &str| pb::GetPipelineRunRequest { run_id: run_id.into() };
        let found = call!(service, get_pipeline_run, run(&first.run_id)).run.unwrap();
        assert_eq!((found.status(), found.trigger_type()), (pb::PipelineStatus::Running, pb::TriggerType::Manual));
        assert_eq!((&*found.variables["A"], &*found.triggered_by, found.start_time, found.total_jobs), ("2", "ann", BEGIN, 1));
        assert_eq!((&*found.pipeline_name, &*found.branch, found.definition_commit_sha.len()), ("Build 100%", "main", 40));
        assert_eq!(refused!(service, get_pipeline_run, run("none")).0, 404);
        assert_eq!(refused!(service, get_pipeline_run, run("")).0, 400);

        let ids = |pipeline_id: &str| (pipeline_id.to_owned(), first.run_id.clone());
        let pause = |(pipeline_id, run_id)| pb::PausePipelineRequest { pipeline_id, run_id, ..Default::default() };
        let resume = |(pipeline_id, run_id)| pb::ResumePipelineRequest { pipeline_id, run_id, ..Default::default() };
        let stop = |(pipeline_id, run_id)| pb::StopPipelineRequest { pipeline_id, run_id, ..Default::default() };
        let (code, message) = refused!(service, resume_pipeline, resume(ids("")));
        assert!(code == 409 && message.starts_with("invalid run state for resume"), "{message}");
        assert_eq!(call!(service, pause_pipeline, pause(ids(&id))).message, "pipeline paused");
        assert_eq!(refused!(service, pause_pipeline, pause(ids(""))).0, 409);
        assert_eq!(refused!(service, pause_pipeline, pause(ids("other"))).0, 400);
        assert_eq!(call!(service, resume_pipeline, resume(ids(&id))).message, "pipeline resumed");
        assert_eq!(call!(service, stop_pipeline, stop(ids(&id))).message, "pipeline stopped");
        let (code, message) = refused!(service, stop_pipeline, stop(ids(&id)));
        assert!(code == 409 && message.starts_with("invalid run state for stop"), "{message}");
        assert_eq!(refused!(service, stop_pipeline, stop((String::new(), "none".into()))).0, 404);

        call!(service, trigger_pipeline, trigger(&id, ""));
        let list = |pipeline_id: &str, status: pb::PipelineStatus| pb::ListPipelineRunsRequest {
            pipeline_id: pipeline_id.into(),
            status: status.into(),
            ..Default::default()
        };
        let all = call!(service, list_pipeline_runs, list(&id, pb::PipelineStatus::Unspecified));
        assert_eq!((all.total, all.runs.len(), all.page_size), (2, 2, 20));
        let cancelled = call!(service, list_pipeline_runs, list("", pb::PipelineStatus::Cancelled));
        assert_eq!((cancelled.total, &cancelled.runs[0].run_id), (1, &first.run_id));
        assert_eq!(call!(service, list_pipeline_runs, list("none", pb::PipelineStatus::Unspecified)).total, 0);
        let counted = call!(service, get_pipeline, get(&id)).pipeline.unwrap();
        assert_eq!((counted.total_runs, counted.status()), (2, pb::PipelineStatus::Running));

        let disable = pb::UpdatePipelineRequest { pipeline_id: id.clone(), is_enabled: -1, ..Default::default() };
        call!(service, update_pipeline, disable);
        assert_eq!(refused!(service, trigger_pipeline, trigger(&id, "")).0, 409);
        // What was begun before is still answered.
        assert_eq!(call!(service, trigger_pipeline, trigger(&id, "r")).run_id, first.run_id);
    }
}

#[tokio::test]
async fn who_wants_something_is_the_caller_unless_another_is_named() {
    for (service, _fresh) in services().await {
        let nameless = pb::CreatePipelineRequest { created_by: String::new(), ..draft() };
        let id = call!(service, create_pipeline, nameless).pipeline_id;
        let nameless = pb::SavePipelineSpecRequest { editor: String::new(), ..save(&id, GOOD, "") };
        call!(service, save_pipeline_spec, nameless);
        let detail = call!(service, get_pipeline, get(&id)).pipeline.unwrap();
        assert_eq!((&*detail.created_by, &*detail.last_editor), ("tess", "tess"));

        let run = async |triggered_by: &str| {
            let trigger = pb::TriggerPipelineRequest { triggered_by: triggered_by.into(), ..trigger(&id, "") };
            let run_id = call!(service, trigger_pipeline, trigger).run_id;
            call!(service, get_pipeline_run, pb::GetPipelineRunRequest { run_id }).run.unwrap()
        };
        assert_eq!(&*run("").await.triggered_by, "tess");
        let run = run("ann").await;
        assert_eq!(&*run.triggered_by, "ann");

        let mut changes = service.engine.changes();
        let stop = pb::StopPipelineRequest { run_id: run.run_id, reason: "enough".into(), ..Default::default() };
        call!(service, stop_pipeline, stop);
        let mut reasons = Vec::new();
        while let Ok(change) = changes.try_recv() {
            if let crate::engine::Moved::Job { job, .. } = &change.what {
                reasons.push(job.error.clone());
            }
        }
        assert!(!reasons.is_empty() && reasons.iter().all(|reason| reason == "by tess: enough"), "{reasons:?}");
    }
}

/// A role that is one too low for `least`.
fn below(least: Role) -> Option<Caller> {
    let role = match least {
        Role::Admin => Role::Operator,
        Role::Operator => Role::Viewer,
        // Who may least of all people may look; agents may not.
        Role::Viewer => return Some(Caller::Agent("a".into())),
    };
    Some(Caller::User { name: "tess".into(), role })
}

/// Nobody else may do a call; who may is answered, if only with a no.
macro_rules! for_whom {
    ($service:expr, $least:expr, $($call:ident: $request:ident),+) => {$(
        let request = || pb::$request::default();
        for (caller, code) in [
            (None, Code::Unauthenticated),
            (Some(Caller::StockAgent), Code::Unauthenticated),
            (Some(Caller::Agent("a".into())), Code::PermissionDenied),
            (below($least), Code::PermissionDenied),
        ] {
            let status = $service.$call(from(caller.clone(), request())).await.unwrap_err();
            assert_eq!(status.code(), code, "{} by {caller:?}: {status}", stringify!($call));
        }
        $service.$call(of($least, request())).await.unwrap();
    )+};
}

#[tokio::test]
async fn viewers_look_operators_run_and_change_and_admins_delete() {
    let (service, _fresh) = services().await.remove(0);
    for_whom!(service, Role::Viewer,
        get_pipeline: GetPipelineRequest, list_pipelines: ListPipelinesRequest, get_pipeline_run: GetPipelineRunRequest,
        list_pipeline_runs: ListPipelineRunsRequest, get_pipeline_spec: GetPipelineSpecRequest,
        validate_pipeline_spec: ValidatePipelineSpecRequest);
    for_whom!(service, Role::Operator,
        create_pipeline: CreatePipelineRequest, update_pipeline: UpdatePipelineRequest,
        trigger_pipeline: TriggerPipelineRequest, stop_pipeline: StopPipelineRequest, pause_pipeline: PausePipelineRequest,
        resume_pipeline: ResumePipelineRequest, save_pipeline_spec: SavePipelineSpecRequest);
    for_whom!(service, Role::Admin, delete_pipeline: DeletePipelineRequest);
}

#[tokio::test]
async fn an_engine_that_has_ended_is_unavailable_and_not_a_refusal() {
    let (service, _fresh) = services().await.remove(0);
    let id = pipeline(&service).await;
    let database = service.engine.database().clone();
    database.close().await;
    let status = service.get_pipeline(of(Role::Viewer, get(&id))).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::Unavailable);
}

mod repositories;
