//! `arcgate run list`.

use std::io::{self, BufWriter, Write};

use arcgate_api::pipeline::v1 as pb;
use serde_json::json;

use super::args::RunsArgs;
use super::error::granted;
use super::link::Link;
use super::pipelines::PAGE;
use super::table::Table;
use super::words::{run_status, shown_millis, shown_time, trigger_type};
use super::{Done, block_on};

pub(super) fn list(options: RunsArgs) -> Done {
    block_on(listed(options))
}

async fn listed(options: RunsArgs) -> Done {
    let link = Link::open(&options.gateway).await?;
    let mut out = BufWriter::new(io::stdout().lock());
    let mut table = Table::new(["RUN", "PIPELINE", "STATUS", "JOBS", "TRIGGER", "BY", "STARTED", "TOOK"]);
    let status = options.status.map_or(pb::PipelineStatus::Unspecified, Into::into);
    let (mut page, mut left) = (1, options.limit);
    while left > 0 {
        let asked = pb::ListPipelineRunsRequest {
            pipeline_id: options.pipeline.clone(),
            status: status.into(),
            page,
            page_size: i32::try_from(PAGE).unwrap_or(i32::MAX),
        };
        let found = link.pipelines().list_pipeline_runs(link.ask(asked)).await?.into_inner();
        granted(found.success, &found.message, None)?;
        let is_last = found.runs.len() < PAGE;
        for one in found.runs.into_iter().take(left) {
            left -= 1;
            if options.json {
                writeln!(out, "{}", as_json(&one))?;
                continue;
            }
            let status = run_status(one.status()).to_owned();
            let jobs = format!("{}/{}", one.completed_jobs, one.total_jobs);
            let trigger = trigger_type(one.trigger_type()).to_owned();
            let took = if one.end_time == 0 { "-".into() } else { shown_millis(one.duration) };
            let started = shown_time(one.start_time);
            table.row([one.run_id, one.pipeline_name, status, jobs, trigger, one.triggered_by, started, took]);
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

fn as_json(one: &pb::PipelineRunDetail) -> serde_json::Value {
    json!({
        "run_id": one.run_id,
        "pipeline_id": one.pipeline_id,
        "pipeline_name": one.pipeline_name,
        "status": run_status(one.status()),
        "trigger": trigger_type(one.trigger_type()),
        "triggered_by": one.triggered_by,
        "branch": one.branch,
        "commit_sha": one.commit_sha,
        "definition": one.definition_commit_sha,
        "total_jobs": one.total_jobs,
        "completed_jobs": one.completed_jobs,
        "failed_jobs": one.failed_jobs,
        "running_jobs": one.running_jobs,
        "started_at": one.start_time,
        "ended_at": one.end_time,
        "duration_ms": one.duration,
    })
}
