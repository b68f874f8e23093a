//! Definitions in real git repositories.

use super::*;
use crate::git::tests::Origin;

const ONE: &str = "namespace: ns\njobs: [{name: one, steps: [{name: s, uses: shell, args: {run: 'true'}}]}]\n";

fn two() -> String {
    ONE.replace("name: one", "name: two")
}

async fn pipeline(service: &PipelineCalls, origin: &Origin, mode: pb::PipelineSaveMode) -> String {
    let draft = pb::CreatePipelineRequest {
        repo_url: origin.url(),
        pipeline_file_path: "p.yaml".into(),
        save_mode: mode.into(),
        ..draft()
    };
    call!(service, create_pipeline, draft).pipeline_id
}

fn spec_of(id: &str) -> pb::GetPipelineSpecRequest {
    pb::GetPipelineSpecRequest { pipeline_id: id.into() }
}

#[tokio::test]
async fn a_run_is_of_what_the_repository_says_when_it_begins() {
    for (service, _fresh) in services().await {
        let origin = Origin::new(ONE);
        let id = pipeline(&service, &origin, pb::PipelineSaveMode::Direct).await;
        let found = call!(service, get_pipeline_spec, spec_of(&id));
        assert_eq!(
            (&*found.spec.unwrap().jobs[0].name, &found.head_commit_sha),
            ("one", &origin.git(&["rev-parse", "main"], ""))
        );

        let run = |run_id: String| pb::GetPipelineRunRequest { run_id };
        let first = call!(service, trigger_pipeline, trigger(&id, "r")).run_id;
        let saved = call!(service, save_pipeline_spec, save(&id, &two(), &found.head_commit_sha));
        assert_eq!(saved.commit_sha, origin.git(&["rev-parse", "main"], ""));
        assert!(origin.git(&["show", "main:p.yaml"], "").contains("two"), "the file is written as its name says");
        let second = call!(service, trigger_pipeline, trigger(&id, "")).run_id;
        for (run_id, commit) in [(&first, &found.head_commit_sha), (&second, &saved.commit_sha)] {
            let run = call!(service, get_pipeline_run, run(run_id.clone())).run.unwrap();
            assert_eq!(&run.definition_commit_sha, commit);
        }
        assert_eq!(call!(service, trigger_pipeline, trigger(&id, "r")).run_id, first, "the same request has the same run");

        let late = call!(service, save_pipeline_spec, save(&id, ONE, &found.head_commit_sha)).error.unwrap();
        let current = late.details.unwrap().fields["currentHeadCommitSha"].kind.clone();
        assert_eq!((late.code, current), (409, Some(prost_types::value::Kind::StringValue(saved.commit_sha))));
        let pipeline = call!(service, get_pipeline, get(&id)).pipeline.unwrap();
        assert_eq!((&*pipeline.last_sync_message, pipeline.last_synced_at), ("synced", BEGIN));
    }
}

#[tokio::test]
async fn a_definition_can_be_saved_on_a_branch_of_its_own_and_does_not_run_from_there() {
    let (service, _fresh) = services().await.remove(0);
    let origin = Origin::new(ONE);
    let before = origin.git(&["rev-parse", "main"], "");
    let id = pipeline(&service, &origin, pb::PipelineSaveMode::Pr).await;
    let saved = call!(service, save_pipeline_spec, save(&id, &two(), ""));
    assert_eq!((saved.save_mode(), &saved.branch), (pb::PipelineSaveMode::Pr, &saved.pr_branch));
    assert_eq!(origin.git(&["rev-parse", &saved.pr_branch], ""), saved.commit_sha);
    assert_eq!(origin.git(&["rev-parse", "main"], ""), before);
    assert_eq!(call!(service, save_pipeline_spec, save(&id, &two(), "")).pr_branch, saved.pr_branch, "the same change again");
    assert_eq!(call!(service, get_pipeline_spec, spec_of(&id)).head_commit_sha, before);
}

#[tokio::test]
async fn what_cannot_be_read_from_a_repository_is_said_and_runs_nothing() {
    let (service, _fresh) = services().await.remove(0);
    let origin = Origin::new("jobs: [");
    let id = pipeline(&service, &origin, pb::PipelineSaveMode::Direct).await;
    let (_, why) = refused!(service, trigger_pipeline, trigger(&id, ""));
    assert!(why.starts_with("spec parse failed: p.yaml at "), "{why}");
    let found = call!(service, get_pipeline, get(&id)).pipeline.unwrap();
    assert!(found.last_sync_message.starts_with("spec parse failed"), "{}", found.last_sync_message);
    assert_eq!(found.total_runs, 0);
    let elsewhere =
        pb::UpdatePipelineRequest { pipeline_id: id.clone(), pipeline_file_path: "other.yaml".into(), ..Default::default() };
    call!(service, update_pipeline, elsewhere);
    let error = call!(service, trigger_pipeline, trigger(&id, "")).error.unwrap();
    assert_eq!((error.code, &*error.r#type), (500, "repository"));
    assert!(error.message.contains("other.yaml is not on branch main"), "{}", error.message);
}

#[tokio::test]
async fn whatever_a_repository_has_is_taken_over_in_the_background() {
    let (service, _fresh) = services().await.remove(0);
    let origin = Origin::new(ONE);
    let id = pipeline(&service, &origin, pb::PipelineSaveMode::Direct).await;
    let repositories = Repositories::new(service.engine.clone());
    repositories.sync_all("").await;
    assert_eq!(service.pipelines.head(&id).await.unwrap().unwrap().0.jobs[0].name, "one");
    origin.change(&two());
    repositories.sync_all("another project").await;
    assert_eq!(service.pipelines.head(&id).await.unwrap().unwrap().0.jobs[0].name, "one");
    let project = call!(service, get_pipeline, get(&id)).pipeline.unwrap().project_id;
    repositories.sync_all(&project).await;
    let (spec, _, commit) = service.pipelines.head(&id).await.unwrap().unwrap();
    assert_eq!((&*spec.jobs[0].name, commit), ("two", origin.git(&["rev-parse", "main"], "")));
}

#[tokio::test]
async fn another_file_of_the_same_commit_is_another_definition() {
    let (service, _fresh) = services().await.remove(0);
    let origin = Origin::new(ONE);
    let id = pipeline(&service, &origin, pb::PipelineSaveMode::Direct).await;
    let there =
        |path: &str| pb::UpdatePipelineRequest { pipeline_id: id.clone(), pipeline_file_path: path.into(), ..Default::default() };
    call!(service, update_pipeline, there("ci/two.yaml"));
    call!(service, save_pipeline_spec, save(&id, &two(), ""));
    for (path, job) in [("p.yaml", "one"), ("ci/two.yaml", "two")] {
        call!(service, update_pipeline, there(path));
        assert_eq!(call!(service, get_pipeline_spec, spec_of(&id)).spec.unwrap().jobs[0].name, job);
        let found = call!(service, get_pipeline, get(&id)).pipeline.unwrap();
        assert_eq!(found.last_commit_sha, origin.git(&["rev-parse", "main"], ""), "it is not read again without need");
    }
}

#[tokio::test]
async fn a_save_that_comes_again_is_the_same_and_no_conflict() {
    let (service, _fresh) = services().await.remove(0);
    let origin = Origin::new(ONE);
    let id = pipeline(&service, &origin, pb::PipelineSaveMode::Direct).await;
    let head = call!(service, get_pipeline_spec, spec_of(&id)).head_commit_sha;
    let request = pb::SavePipelineSpecRequest { request_id: "r".into(), ..save(&id, &two(), &head) };
    let first = call!(service, save_pipeline_spec, request.clone());
    let again = call!(service, save_pipeline_spec, request);
    assert_eq!((&again.commit_sha, &*again.message), (&first.commit_sha, "idempotent request"));
}

#[tokio::test]
async fn a_password_in_a_repositorys_address_is_shown_to_nobody() {
    let (service, _fresh) = services().await.remove(0);
    let repo_url = "https://bot:hunter2@nowhere.invalid/repo".to_owned();
    let id = call!(service, create_pipeline, pb::CreatePipelineRequest { repo_url, ..draft() }).pipeline_id;
    let shown = call!(service, get_pipeline, get(&id)).pipeline.unwrap().repo_url;
    assert_eq!(shown, "https://…@nowhere.invalid/repo");
    let listed = call!(service, list_pipelines, pb::ListPipelinesRequest::default()).pipelines;
    assert_eq!(listed[0].repo_url, shown);
    // As it is shown, it can be sent back.
    let same = pb::UpdatePipelineRequest { pipeline_id: id.clone(), repo_url: shown, name: "other".into(), ..Default::default() };
    call!(service, update_pipeline, same);
    let kept = service.pipelines.get(&id).await.unwrap().unwrap();
    assert_eq!((&*kept.name, &*kept.repo_url), ("other", "https://bot:hunter2@nowhere.invalid/repo"));
}
