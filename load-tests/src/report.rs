//! What a scenario found, for people and as a row of a table.

use std::fmt;
use std::time::Duration;

use arcgate_load::Outcome;
use hdrhistogram::Histogram;

/// Longer than any answer takes; what takes longer counts as this.
const LONGEST_MICROS: u64 = 120_000_000;

/// The head of the table of [`Report::row`].
pub(crate) const HEAD: &str = "\
| scenario | per second | CPU-s per million | p50 | p99 | p99.9 | max | gateway's peak memory | stored, bytes each |
|---|--:|--:|--:|--:|--:|--:|--:|--:|";

/// Latencies in microseconds.
pub(crate) fn latencies() -> Outcome<Histogram<u64>> {
    Ok(Histogram::new_with_bounds(1, LONGEST_MICROS, 3)?)
}

/// What a scenario found.
#[derive(Debug)]
pub(crate) struct Report {
    /// What was done, in a few words.
    pub(crate) scenario: String,
    /// What is counted: lines, events.
    pub(crate) unit: &'static str,
    /// How many were acked, or read.
    pub(crate) count: u64,
    /// In which time; none if only the latencies matter.
    pub(crate) elapsed: Option<Duration>,
    /// The processor time of the gateway, or of the process that does it without one.
    pub(crate) cpu: Option<Duration>,
    /// From what to what the latencies run.
    pub(crate) latency_of: &'static str,
    /// The latencies, in microseconds.
    pub(crate) latency: Histogram<u64>,
    /// The gateway's peak memory in bytes.
    pub(crate) peak_memory: Option<u64>,
    /// What each took where it was stored: the place, and bytes.
    pub(crate) stored: Vec<(&'static str, f64)>,
    /// What was not as it should be: dropped lines, rejected batches. Empty in a good run.
    pub(crate) faults: Vec<String>,
}

impl Report {
    /// A report of `count` things and nothing else yet.
    pub(crate) fn new(scenario: String, unit: &'static str, count: u64) -> Outcome<Self> {
        Ok(Self {
            scenario,
            unit,
            count,
            elapsed: None,
            cpu: None,
            latency_of: "none",
            latency: latencies()?,
            peak_memory: None,
            stored: Vec::new(),
            faults: Vec::new(),
        })
    }

    fn per_second(&self) -> Option<String> {
        Some(thousands(self.count as f64 / self.elapsed?.as_secs_f64()))
    }

    fn cpu_per_million(&self) -> Option<f64> {
        self.cpu.map(|cpu| cpu.as_secs_f64() / (self.count.max(1) as f64 / 1e6))
    }

    fn quantile(&self, quantile: f64) -> String {
        if self.latency.is_empty() { "–".to_owned() } else { millis(self.latency.value_at_quantile(quantile)) }
    }

    /// The row for the table under [`HEAD`].
    pub(crate) fn row(&self) -> String {
        let none = || "–".to_owned();
        let stored: Vec<_> = self.stored.iter().map(|(place, bytes)| format!("{bytes:.1} {place}")).collect();
        format!(
            "| {} | {} | {} | {} | {} | {} | {} | {} | {} |{}",
            self.scenario,
            self.per_second().map_or_else(none, |rate| format!("{rate} {}", self.unit)),
            self.cpu_per_million().map_or_else(none, |cpu| format!("{cpu:.2}")),
            self.quantile(0.5),
            self.quantile(0.99),
            self.quantile(0.999),
            self.quantile(1.0),
            self.peak_memory.map_or_else(none, |bytes| format!("{} MB", bytes / 1_000_000)),
            if stored.is_empty() { none() } else { stored.join(", ") },
            self.faults.iter().map(|fault| format!(" **{fault}**")).collect::<String>(),
        )
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = self.unit;
        writeln!(f, "{}", self.scenario)?;
        if let (Some(elapsed), Some(rate)) = (self.elapsed, self.per_second()) {
            writeln!(f, "  {} {unit} in {:.1} s: {rate} {unit}/s", self.count, elapsed.as_secs_f64())?;
            if let (Some(cpu), Some(each)) = (self.cpu, self.cpu_per_million()) {
                let share = 100.0 * cpu.as_secs_f64() / elapsed.as_secs_f64();
                writeln!(f, "  {each:.3} CPU-s per million {unit}, {share:.0}% of a core")?;
            }
        }
        if let Some(bytes) = self.peak_memory {
            writeln!(f, "  gateway: {} MB of memory at its peak", bytes / 1_000_000)?;
        }
        self.stored.iter().try_for_each(|(place, bytes)| writeln!(f, "  {bytes:.1} bytes of each stored, {place}"))?;
        let [p50, p99, p999, max] = [0.5, 0.99, 0.999, 1.0].map(|quantile| self.quantile(quantile));
        writeln!(f, "  {}: p50 {p50}, p99 {p99}, p99.9 {p999}, max {max}", self.latency_of)?;
        self.faults.iter().try_for_each(|fault| writeln!(f, "  FAULT: {fault}"))
    }
}

fn millis(micros: u64) -> String {
    format!("{:.1} ms", micros as f64 / 1e3)
}

/// `4512345.6` as `4,512,346`.
fn thousands(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index) % 3 == 0 {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::thousands;

    #[test]
    fn thousands_are_separated() {
        assert_eq!(
            ["0", "999", "1,000", "4,512,346"],
            [0.0, 999.4, 1000.0, 4_512_345.6].map(thousands).each_ref().map(String::as_str)
        );
    }
}
