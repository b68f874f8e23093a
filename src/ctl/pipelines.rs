//! `arcgate pipeline create|save|validate|trigger|stop|list`.

use std::io::{self, BufWriter, Write};

use arcgate_api::pipeline::v1 as pb;
use arcgate_control::spec::Format;
use serde_json::json;

use super::args::{CreateArgs, ListArgs, PipelineCommand, SaveArgs, StopArgs, TriggerArgs, ValidateArgs};
use super::definition::Definition;
use super::error::{granted, note};
use super::link::Link;
use super::table::Table;
use super::words::{run_status, shown_time};
use super::{Done, block_on};

/// The most that a list asks for at once; the gateway gives no more.
pub(super) const PAGE: usize = 100;

pub(super) fn run(command: PipelineCommand) -> Done {
    match command {
        PipelineCommand::Create(options) => block_on(create(options)),
        PipelineCommand::Save(options) => block_on(save(options)),
        PipelineCommand::Validate(options) => block_on(validate(options)),
        PipelineCommand::Trigger(options) => block_on(trigger(options)),
        PipelineCommand::Stop(options) => block_on(stop(options)),
        PipelineCommand::List(options) => block_on(list(options)),
    }
}

async fn create(options: CreateArgs) -> Done {
    let definition = Definition::read(&options.file)?;
    let link = Link::open(&options.gateway).await?;
    // First, so that no pipeline is made that has no definition.
    check(&link, &definition).await?;
    let asked = pb::CreatePipelineRequest {
        project_id: options.project,
        name: options.name.unwrap_or_else(|| definition.spec().namespace.clone()),
        description: options.description,
        pipeline_file_path: options.path.unwrap_or_else(|| file_name(&definition)),
        ..Default::default()
    };
    let made = link.pipelines().create_pipeline(link.ask(asked)).await?.into_inner();
    granted(made.success, &made.message, made.error.as_ref())?;
    let id = made.pipeline_id;
    let saved = save_as(&link, &definition, pb::SavePipelineSpecRequest { pipeline_id: id.clone(), ..Default::default() }).await;
    let revision = saved.inspect_err(|_| {
        note(&format!("pipeline {id} was made, but has no definition yet: `arcgate pipeline save {id} FILE` gives it one"));
    })?;
    let mut out = io::stdout().lock();
    if options.json {
        writeln!(out, "{}", json!({ "pipeline_id": id, "revision": revision }))?;
    } else {
        writeln!(out, "{id}")?;
    }
    Ok(())
}

/// The definition's path in a repository, if nobody says another.
fn file_name(definition: &Definition) -> String {
    let name = std::path::Path::new(&definition.file).file_name().map(|name| name.to_string_lossy().into_owned());
    name.filter(|name| name != "stdin").unwrap_or_else(|| "pipeline.yaml".into())
}

async fn save(options: SaveArgs) -> Done {
    let definition = Definition::read(&options.file)?;
    let link = Link::open(&options.gateway).await?;
    let asked = pb::SavePipelineSpecRequest {
        pipeline_id: options.pipeline,
        expected_head_commit_sha: options.expect,
        commit_message: options.message,
        ..Default::default()
    };
    let revision = save_as(&link, &definition, asked).await?;
    Ok(writeln!(io::stdout(), "{revision}")?)
}

/// Saves a definition; its revision.
async fn save_as(link: &Link, definition: &Definition, asked: pb::SavePipelineSpecRequest) -> Done<String> {
    let asked = pb::SavePipelineSpecRequest { spec: Some(definition.spec().clone()), format: format(definition), ..asked };
    let saved = link.pipelines().save_pipeline_spec(link.ask(asked)).await?.into_inner();
    granted(saved.success, &saved.message, saved.error.as_ref()).map_err(|why| why.about(definition))?;
    Ok(saved.commit_sha)
}

fn format(definition: &Definition) -> i32 {
    let format = match definition.format {
        Format::Json => pb::SpecFormat::Json,
        Format::Yaml => pb::SpecFormat::Yaml,
    };
    format.into()
}

/// Checks a definition; the number of its jobs. What only looks wrong is told.
async fn check(link: &Link, definition: &Definition) -> Done<i32> {
    let spec = Some(definition.spec().clone());
    let asked = pb::ValidatePipelineSpecRequest { spec, format: format(definition), ..Default::default() };
    let checked = link.pipelines().validate_pipeline_spec(link.ask(asked)).await?.into_inner();
    granted(checked.success, &checked.message, checked.error.as_ref()).map_err(|why| why.about(definition))?;
    warn(&definition.file, &checked.warnings);
    Ok(checked.jobs_count)
}

fn warn(about: &str, warnings: &[String]) {
    warnings.iter().for_each(|warning| note(&format!("{about}: warning: {warning}")));
}

async fn validate(options: ValidateArgs) -> Done {
    let definition = options.file.as_deref().map(Definition::read).transpose()?;
    let link = Link::open(&options.gateway).await?;
    let (about, jobs) = match definition {
        Some(definition) => (definition.file.clone(), check(&link, &definition).await?),
        None => {
            let pipeline_id = options.pipeline.unwrap_or_default();
            let asked = pb::ValidatePipelineSpecRequest { pipeline_id: pipeline_id.clone(), ..Default::default() };
            let checked = link.pipelines().validate_pipeline_spec(link.ask(asked)).await?.into_inner();
            granted(checked.success, &checked.message, checked.error.as_ref())?;
            warn(&pipeline_id, &checked.warnings);
            (pipeline_id, checked.jobs_count)
        }
    };
    Ok(writeln!(io::stdout(), "{about}: ok, {jobs} {}", if jobs == 1 { "job" } else { "jobs" })?)
}

async fn trigger(options: TriggerArgs) -> Done {
    let link = Link::open(&options.gateway).await?;
    let asked = pb::TriggerPipelineRequest {
        pipeline_id: options.pipeline,
        variables: options.variables.into_iter().collect(),
        triggered_by: options.by,
        request_id: options.request_id,
    };
    let begun = link.pipelines().trigger_pipeline(link.ask(asked)).await?.into_inner();
    granted(begun.success, &begun.message, begun.error.as_ref())?;
    Ok(writeln!(io::stdout(), "{}", begun.run_id)?)
}

async fn stop(options: StopArgs) -> Done {
    let link = Link::open(&options.gateway).await?;
    let asked = pb::StopPipelineRequest { run_id: options.run, reason: options.reason, ..Default::default() };
    let stopped = link.pipelines().stop_pipeline(link.ask(asked)).await?.into_inner();
    Ok(granted(stopped.success, &stopped.message, stopped.error.as_ref())?)
}

async fn list(options: ListArgs) -> Done {
    let link = Link::open(&options.gateway).await?;
    let mut out = BufWriter::new(io::stdout().lock());
    let mut table = Table::new(["PIPELINE", "NAME", "PROJECT", "STATUS", "RUNS", "FAILED", "ENABLED", "CREATED"]);
    let (mut page, mut left) = (1, options.limit);
    while left > 0 {
        let asked = pb::ListPipelinesRequest {
            project_id: options.project.clone(),
            name: options.name.clone(),
            page,
            page_size: i32::try_from(PAGE).unwrap_or(i32::MAX),
            ..Default::default()
        };
        let found = link.pipelines().list_pipelines(link.ask(asked)).await?.into_inner();
        granted(found.success, &found.message, None)?;
        let is_last = found.pipelines.len() < PAGE;
        for one in found.pipelines.into_iter().take(left) {
            left -= 1;
            if options.json {
                writeln!(out, "{}", as_json(&one))?;
                continue;
            }
            let (runs, failed) = (one.total_runs.to_string(), one.failed_runs.to_string());
            let enabled = if one.is_enabled == 1 { "yes" } else { "no" }.to_owned();
            let status = run_status(one.status()).to_owned();
            table.row([one.pipeline_id, one.name, one.project_id, status, runs, failed, enabled, shown_time(one.created_at)]);
        }
        if is_last {
            break;
        }
        page += 1;
    }
    if !options.json {
        table.write(&mut out)?;
    }
    Ok(out.flush()?)
}

fn as_json(one: &pb::PipelineDetail) -> serde_json::Value {
    json!({
        "pipeline_id": one.pipeline_id,
        "project_id": one.project_id,
        "name": one.name,
        "description": one.description,
        "status": run_status(one.status()),
        "is_enabled": one.is_enabled == 1,
        "revision": one.last_commit_sha,
        "last_editor": one.last_editor,
        "created_by": one.created_by,
        "total_runs": one.total_runs,
        "success_runs": one.success_runs,
        "failed_runs": one.failed_runs,
        "created_at": one.created_at,
        "updated_at": one.updated_at,
    })
}
