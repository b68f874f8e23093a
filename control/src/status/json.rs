//! A step run as JSON, with the members that existing clients know. Objects inside are texts of JSON, as those clients expect.

use std::collections::BTreeMap;

use arcgate_api::pipeline::v1 as spec_pb;
use prost_types::value::Kind;
use serde_json::{Number, Value, json};
use sqlx::any::AnyRow;

use crate::Millis;
use crate::db::DbError;
use crate::db::row::{Columns as _, json as text_of};

/// The step run of a row; `of` is its step in the definition.
pub(super) fn of(row: &AnyRow, of: &spec_pb::Step) -> Result<Value, DbError> {
    let text = |column: &str| row.text(column);
    let number = |column: &str| row.number(column);
    let truth = |column: &str| Ok::<_, DbError>(row.number(column)? != 0);
    let mut environment: BTreeMap<String, String> = of.env.clone().into_iter().collect();
    if let Some(own) = row.maybe_text("env")? {
        let own: BTreeMap<String, String> =
            serde_json::from_str(&own).map_err(|error| DbError::Corrupt(format!("column env: {error}")))?;
        environment.extend(own);
    }
    let args: BTreeMap<&String, Value> =
        of.args.iter().flat_map(|args| &args.fields).map(|(name, arg)| (name, plain(arg))).collect();
    Ok(json!({
        "stepRunId": text("step_run_id")?,
        "name": text("name")?,
        "pipelineId": text("pipeline_id")?,
        "pipelineRunId": text("pipeline_run_id")?,
        "stageId": text("stage_id")?,
        "jobId": text("job_id")?,
        "jobRunId": text("job_run_id")?,
        "stepIndex": number("step_index")?,
        "agentId": text("agent_id")?,
        "status": number("status")?,
        "priority": number("priority")?,
        "uses": text("uses")?,
        "action": text("action")?,
        "args": text_of(&args)?,
        "workspace": text("workspace")?,
        "env": text_of(&environment)?,
        "timeout": text("timeout")?,
        "retryCount": number("retry_count")?,
        "currentRetry": number("current_retry")?,
        "allowFailure": truth("allow_failure")?,
        "continueOnError": truth("continue_on_error")?,
        "when": text("when")?,
        "labelSelector": text("label_selector")?,
        "dependsOn": text("depends_on")?,
        "exitCode": row.maybe_number("exit_code")?,
        "errorMessage": text("error_message")?,
        "startTime": row.maybe_number("start_time")?.map(rfc3339),
        "endTime": row.maybe_number("end_time")?.map(rfc3339),
        "duration": number("duration")?,
        "createdBy": text("created_by")?,
    }))
}

fn rfc3339(at: Millis) -> String {
    jiff::Timestamp::from_millisecond(at).unwrap_or_default().to_string()
}

/// A value without a kind is null, and so is a number that JSON does not have.
fn plain(value: &prost_types::Value) -> Value {
    match &value.kind {
        Some(Kind::BoolValue(value)) => Value::Bool(*value),
        Some(Kind::NumberValue(value)) => Number::from_f64(*value).map_or(Value::Null, Value::Number),
        Some(Kind::StringValue(text)) => Value::String(text.clone()),
        Some(Kind::ListValue(list)) => list.values.iter().map(plain).collect(),
        Some(Kind::StructValue(fields)) => {
            Value::Object(fields.fields.iter().map(|(name, value)| (name.clone(), plain(value))).collect())
        }
        None | Some(Kind::NullValue(_)) => Value::Null,
    }
}
