//! What a process costs, from `/proc`.

use std::fs;
use std::time::Duration;

use crate::Outcome;

/// Linux reports processor time to user space in hundredths of a second, whatever the kernel's own tick is.
const TICK: Duration = Duration::from_millis(10);

/// Processor time that the process has used so far, user and system, all threads.
pub fn cpu(pid: u32) -> Outcome<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name in parentheses may hold anything, so fields are counted from its end: state is the third of the line.
    let fields: Vec<&str> = stat.rsplit_once(')').ok_or("no name in /proc/PID/stat")?.1.split_whitespace().collect();
    let ticks = |field: usize| -> Outcome<u32> { Ok(fields.get(field - 3).ok_or("short /proc/PID/stat")?.parse()?) };
    Ok(TICK * (ticks(14)? + ticks(15)?))
}

/// The most memory the process has ever held, in bytes (`VmHWM`).
pub fn peak_memory(pid: u32) -> Outcome<u64> {
    status_kilobytes(pid, "VmHWM:")
}

/// The memory the process holds now, in bytes (`VmRSS`).
pub fn memory(pid: u32) -> Outcome<u64> {
    status_kilobytes(pid, "VmRSS:")
}

fn status_kilobytes(pid: u32, key: &str) -> Outcome<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(key)).ok_or_else(|| format!("no {key} of process {pid}"))?;
    Ok(line.trim().trim_end_matches("kB").trim().parse::<u64>()? * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_process_has_used_time_and_memory() -> Outcome<()> {
        let me = std::process::id();
        // The two are read one after the other while other tests of this process allocate, so they are not compared.
        assert!(peak_memory(me)? > 100_000);
        assert!(memory(me)? > 100_000);
        assert!(cpu(me)? < Duration::from_secs(3600));
        Ok(())
    }
}
