//! When a cron trigger fires.
//!
//! An expression has five fields (minute, hour, day of month, month, day of week) or six, with seconds before them; or is one of
//! `@yearly`, `@monthly`, `@weekly`, `@daily`, `@hourly`, or `@every 90m`. If both days are given, one of them suffices.
//!
//! Fields are read in the trigger's time zone. Where its clock jumps forward, a fixed time that does not exist that day fires
//! when the jump is over; where it goes back, a fixed time fires once. Schedules of intervals (`*/10 * * * *`) go on through both.
//! `@every` counts from the time it fired last.
//!
//! What was missed while nothing ran is caught up at most once: see [`Schedule::due`].

use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};
use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::text::{hint, quoted};
use crate::{Millis, duration};

/// The longest expression, in bytes.
const MAX_EXPRESSION_BYTES: usize = 256;
/// The shortest time for `@every`.
const MIN_EVERY: Millis = 1000;

/// Why there is no schedule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CronError {
    /// The expression is none.
    #[error("{expression} is no cron expression: {why}; write five fields, as '30 2 * * 1-5', or '@every 90m'")]
    Expression {
        /// The expression.
        expression: String,
        /// What is wrong with it.
        why: String,
    },
    /// No time fits it.
    #[error("the cron expression {0} never fires: there is no such time")]
    Never(String),
    /// The time zone does not exist.
    #[error("the time zone {0} is unknown; write it as Europe/Berlin{1}")]
    Zone(String, String),
}

/// The times at which a trigger fires.
#[derive(Debug, Clone)]
pub struct Schedule {
    times: Times,
    zone: TimeZone,
}

#[derive(Debug, Clone)]
enum Times {
    Fields(Box<Cron>),
    Every(Millis),
}

impl Schedule {
    /// Reads an expression; `zone` is the IANA name of a time zone, or empty for UTC.
    ///
    /// # Errors
    /// What is no expression, never fires, or names no time zone.
    pub fn parse(expression: &str, zone: &str) -> Result<Self, CronError> {
        let fail =
            |why: &str| CronError::Expression { expression: quoted(expression), why: why.trim_end_matches('.').to_owned() };
        if expression.len() > MAX_EXPRESSION_BYTES {
            return Err(fail("it is longer than 256 bytes"));
        }
        let zone = time_zone(zone)?;
        if let Some(every) = expression.trim().strip_prefix("@every ") {
            let every = duration::parse(every.trim()).map_err(|error| fail(&error.to_string()))?;
            let every = duration::millis(every);
            if every < MIN_EVERY {
                return Err(fail("the time between is shorter than a second"));
            }
            return Ok(Self { times: Times::Every(every), zone });
        }
        let parser = CronParser::builder().seconds(Seconds::Optional).year(Year::Disallowed).build();
        let cron = parser.parse(expression).map_err(|error| fail(&error.to_string()))?;
        let schedule = Self { times: Times::Fields(Box::new(cron)), zone };
        // From any time on: what fires at all fires within the four hundred years after which days repeat.
        if schedule.next(0).is_none() { Err(CronError::Never(quoted(expression))) } else { Ok(schedule) }
    }

    /// The first time after `after`.
    #[must_use]
    pub fn next(&self, after: Millis) -> Option<Millis> {
        match &self.times {
            Times::Every(every) => after.checked_add(*every),
            Times::Fields(cron) => {
                let from = Timestamp::from_millisecond(after).ok()?.to_zoned(self.zone.clone());
                cron.find_next_occurrence(&from, false).ok().map(|time| time.timestamp().as_millisecond())
            }
        }
    }

    /// The time for which to fire now, if one came after `since` (when it was looked at last, or fired last) and not after `now`.
    /// Of several that were missed it is the last one: they are caught up by firing once.
    #[must_use]
    pub fn due(&self, since: Millis, now: Millis) -> Option<Millis> {
        if now <= since {
            return None;
        }
        match &self.times {
            Times::Every(every) => Some(since + (now - since) / every * every),
            Times::Fields(cron) => {
                let from = Timestamp::from_millisecond(now).ok()?.to_zoned(self.zone.clone());
                cron.find_previous_occurrence(&from, true).ok().map(|time| time.timestamp().as_millisecond())
            }
        }
        .filter(|time| *time > since)
    }
}

fn time_zone(name: &str) -> Result<TimeZone, CronError> {
    if name.is_empty() {
        return Ok(TimeZone::UTC);
    }
    TimeZone::get(name).map_err(|_| {
        let known: Vec<String> = jiff::tz::db().available().map(|zone| zone.to_string()).collect();
        CronError::Zone(quoted(name), hint(name, known.iter().map(String::as_str)))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(time: &str) -> Millis {
        time.parse::<Timestamp>().unwrap().as_millisecond()
    }

    fn schedule(expression: &str, zone: &str) -> Schedule {
        Schedule::parse(expression, zone).unwrap()
    }

    /// The next times after `after`, in UTC.
    fn times(expression: &str, zone: &str, after: &str, count: usize) -> Vec<String> {
        let schedule = schedule(expression, zone);
        let mut now = at(after);
        (0..count)
            .map(|_| {
                now = schedule.next(now).unwrap();
                Timestamp::from_millisecond(now).unwrap().to_string()
            })
            .collect()
    }

    #[test]
    fn expressions_have_five_fields_or_six_or_a_name() {
        assert_eq!(times("30 2 * * 1-5", "", "2026-01-02T03:00:00Z", 2), ["2026-01-05T02:30:00Z", "2026-01-06T02:30:00Z"]);
        assert_eq!(times("*/20 * * * * *", "", "2026-01-02T03:00:00.5Z", 2), ["2026-01-02T03:00:20Z", "2026-01-02T03:00:40Z"]);
        assert_eq!(times("@daily", "", "2026-01-02T03:00:00Z", 1), ["2026-01-03T00:00:00Z"]);
        assert_eq!(times("@every 1h30m", "", "2026-01-02T03:00:07Z", 2), ["2026-01-02T04:30:07Z", "2026-01-02T06:00:07Z"]);
        assert_eq!(times("0 0 29 feb *", "", "2026-01-01T00:00:00Z", 1), ["2028-02-29T00:00:00Z"]);
        // The first of a month, or any Monday.
        assert_eq!(times("0 0 1 * mon", "", "2026-01-27T00:00:00Z", 2), ["2026-02-01T00:00:00Z", "2026-02-02T00:00:00Z"]);
    }

    #[test]
    fn fields_are_read_in_the_time_zone() {
        assert_eq!(times("0 9 * * *", "Asia/Tokyo", "2026-01-01T01:00:00Z", 1), ["2026-01-02T00:00:00Z"]);
    }

    #[test]
    fn a_time_that_a_clock_jumps_over_fires_when_the_jump_is_over() {
        // On 8 March 2026 New York goes from 02:00 (07:00 UTC) to 03:00.
        let fired = times("30 2 * * *", "America/New_York", "2026-03-07T12:00:00Z", 2);
        assert_eq!(fired, ["2026-03-08T07:00:00Z", "2026-03-09T06:30:00Z"]);
        let fired = times("*/30 * * * *", "America/New_York", "2026-03-08T06:15:00Z", 3);
        assert_eq!(fired, ["2026-03-08T06:30:00Z", "2026-03-08T07:00:00Z", "2026-03-08T07:30:00Z"]);
    }

    #[test]
    fn a_time_that_a_clock_repeats_fires_once() {
        // On 1 November 2026 New York goes from 02:00 (06:00 UTC) back to 01:00.
        let fired = times("30 1 * * *", "America/New_York", "2026-10-31T12:00:00Z", 2);
        assert_eq!(fired, ["2026-11-01T05:30:00Z", "2026-11-02T06:30:00Z"]);
        let fired = times("*/30 * * * *", "America/New_York", "2026-11-01T05:15:00Z", 4);
        assert_eq!(fired, ["2026-11-01T05:30:00Z", "2026-11-01T06:00:00Z", "2026-11-01T06:30:00Z", "2026-11-01T07:00:00Z"]);
    }

    #[test]
    fn what_was_missed_is_caught_up_once() {
        let hourly = schedule("0 * * * *", "");
        let (before, after) = (at("2026-01-01T00:30:00Z"), at("2026-01-03T10:15:00Z"));
        assert_eq!(hourly.due(before, after), Some(at("2026-01-03T10:00:00Z")));
        assert_eq!(hourly.due(at("2026-01-03T10:00:00Z"), after), None);
        assert_eq!(hourly.due(at("2026-01-03T09:59:59Z"), at("2026-01-03T10:00:00Z")), Some(at("2026-01-03T10:00:00Z")));
        // A clock that was set back.
        assert_eq!(hourly.due(after, before), None);
        let every = schedule("@every 10m", "");
        assert_eq!(every.due(before, before + 35 * 60_000), Some(before + 30 * 60_000));
        assert_eq!(every.due(before, before + 9 * 60_000), None);
    }

    #[test]
    fn mistakes_say_what_is_wrong() {
        for (expression, zone, part) in [
            ("", "", "'' is no cron expression"),
            ("* * * *", "", "'* * * *' is no cron expression"),
            ("60 * * * *", "", "'60 * * * *' is no cron expression"),
            ("* * * * * * 2030", "", "is no cron expression"),
            ("0 0 30 2 *", "", "'0 0 30 2 *' never fires"),
            ("@often", "", "'@often' is no cron expression"),
            ("@every 5", "", "'5' is no duration"),
            ("@every 10ms", "", "shorter than a second"),
            (&"*".repeat(300), "", "longer than 256 bytes"),
            (
                "* * * * *",
                "Europe/Berln",
                "the time zone 'Europe/Berln' is unknown; write it as Europe/Berlin; did you mean Europe/Berlin?",
            ),
            ("* * * * *", "local time", "'local time' is unknown"),
        ] {
            let error = Schedule::parse(expression, zone).unwrap_err().to_string();
            assert!(error.contains(part), "{expression}: {error}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// What is due is what counting on from `since` gives last.
        #[test]
        fn looking_back_and_counting_on_agree(
            expression in prop::sample::select(vec!["30 2 * * *", "30 1 * * *", "0 */3 * * *", "*/45 * * * *", "15 1,2,3 * * 0", "0 0 1 * *"]),
            zone in prop::sample::select(vec!["", "America/New_York", "Europe/Berlin", "Australia/Lord_Howe"]),
            // Days around the changes of clocks, in minutes.
            day in prop::sample::select(vec!["2026-03-08T00:00:00Z", "2026-11-01T00:00:00Z", "2026-03-29T00:00:00Z", "2026-10-25T00:00:00Z", "2026-04-04T00:00:00Z", "2026-10-03T00:00:00Z"]),
            since in -1440i64..2880,
            span in 0i64..1440,
        ) {
            let schedule = schedule(expression, zone);
            let since = at(day) + since * 60_000;
            let now = since + span * 60_000;
            let counted = std::iter::successors(schedule.next(since), |time| schedule.next(*time)).take_while(|time| *time <= now).last();
            prop_assert_eq!(schedule.due(since, now), counted);
        }

        #[test]
        fn any_text_is_a_schedule_or_refused_without_a_panic(text in "[-0-9*/,#LW?@a-z ]{0,24}") {
            if let Ok(schedule) = Schedule::parse(&text, "Europe/Berlin") {
                prop_assert!(schedule.next(at("2026-01-01T00:00:00Z")).is_some_and(|next| next > at("2026-01-01T00:00:00Z")));
            }
        }
    }
}
