//! Statuses, times and durations as people and scripts read them.

use arcgate_api::agent::v1::AgentStatus;
use arcgate_api::pipeline::v1::{PipelineStatus, TriggerType};
use arcgate_api::steprun::v1::StepRunStatus;

use crate::time::rfc3339;

pub(super) fn run_status(status: PipelineStatus) -> &'static str {
    match status {
        PipelineStatus::Unspecified => "unknown",
        PipelineStatus::Pending => "pending",
        PipelineStatus::Running => "running",
        PipelineStatus::Success => "success",
        PipelineStatus::Failed => "failed",
        PipelineStatus::Cancelled => "cancelled",
        PipelineStatus::Paused => "paused",
    }
}

pub(super) fn step_status(status: StepRunStatus) -> &'static str {
    match status {
        StepRunStatus::Unspecified => "unknown",
        StepRunStatus::Pending => "pending",
        StepRunStatus::Queued => "queued",
        StepRunStatus::Running => "running",
        StepRunStatus::Success => "success",
        StepRunStatus::Failed => "failed",
        StepRunStatus::Cancelled => "cancelled",
        StepRunStatus::Timeout => "timeout",
        StepRunStatus::Skipped => "skipped",
    }
}

pub(super) fn agent_status(status: AgentStatus) -> &'static str {
    match status {
        AgentStatus::Unspecified => "unknown",
        AgentStatus::Online => "online",
        AgentStatus::Offline => "offline",
        AgentStatus::Busy => "busy",
        AgentStatus::Idle => "idle",
    }
}

pub(super) fn trigger_type(kind: TriggerType) -> &'static str {
    match kind {
        TriggerType::Unspecified => "unknown",
        TriggerType::Manual => "manual",
        TriggerType::Cron => "cron",
        TriggerType::Event => "event",
    }
}

/// A time in seconds since the Unix epoch; 0 is none.
pub(super) fn shown_time(seconds: i64) -> String {
    if seconds == 0 { "-".into() } else { rfc3339(seconds.saturating_mul(1000)) }
}

/// A duration, to a tenth of a second below a minute and to the second above.
pub(super) fn shown_millis(millis: i64) -> String {
    let seconds = millis / 1000;
    match seconds {
        ..60 => format!("{seconds}.{}s", millis % 1000 / 100),
        60..3600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        _ => format!("{}h{:02}m", seconds / 3600, seconds / 60 % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_short() {
        let shown = [0, 950, 59_999, 60_000, 3_599_000, 3_600_000, 90_061_000].map(shown_millis);
        assert_eq!(shown, ["0.0s", "0.9s", "59.9s", "1m00s", "59m59s", "1h00m", "25h01m"]);
        assert_eq!((shown_time(0), shown_time(1)), ("-".into(), "1970-01-01T00:00:01Z".into()));
    }
}
