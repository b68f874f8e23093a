//! The messages of the interface beside the lines themselves.

use std::io::Write as _;

use super::request::Target;
use crate::lookup::StatusItem;
use crate::replay::escape::escape;

/// The log channel's name.
pub(super) const LOG: &str = "channel_log";
/// The status channel's name.
pub(super) const STATUS: &str = "channel_status";

/// The beginning of a message: everything before its data.
pub(super) fn head(channel: &str, kind: &str, target: &Target) -> Vec<u8> {
    let mut out = Vec::with_capacity(192);
    field(b"{\"channel\":\"", channel, &mut out);
    field(b",\"type\":\"", kind, &mut out);
    if *target != Target::default() {
        field(b",\"params\":{\"pipelineId\":\"", &target.pipeline_id, &mut out);
        field(b",\"jobId\":\"", &target.job_id, &mut out);
        field(b",\"stepRunId\":\"", &target.step_run_id, &mut out);
        out.push(b'}');
    }
    out
}

/// A message without data.
pub(super) fn plain(channel: &str, kind: &str, target: &Target) -> Vec<u8> {
    let mut out = head(channel, kind, target);
    out.extend_from_slice(b",\"data\":null}");
    out
}

/// `subscribed`, with the epoch that lines have from now on.
pub(super) fn subscribed(target: &Target, epoch: u32) -> Vec<u8> {
    let mut out = head(LOG, "subscribed", target);
    // Writing into a Vec cannot fail.
    let _ = write!(out, ",\"data\":null,\"epoch\":{epoch}}}");
    out
}

/// `error`, with what is wrong.
pub(super) fn error(channel: &str, target: &Target, error: &str) -> Vec<u8> {
    let mut out = head(channel, "error", target);
    field(b",\"error\":\"", error, &mut out);
    out.push(b'}');
    out
}

/// `status_snapshot` or `status`.
pub(super) fn status(target: &Target, item: &StatusItem) -> Vec<u8> {
    let (kind, data) = match item {
        StatusItem::Snapshot(data) => ("status_snapshot", data),
        StatusItem::Change(data) => ("status", data),
    };
    let mut out = head(STATUS, kind, target);
    let _ = write!(out, ",\"data\":{data}}}");
    out
}

fn field(name: &[u8], value: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(name);
    escape(value, out);
    out.push(b'"');
}
