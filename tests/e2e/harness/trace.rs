//! System calls of a gateway in the order in which they happened, as strace saw them.

use std::fs;
use std::path::{Path, PathBuf};

use super::Outcome;

/// One finished call.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    /// When it began, in microseconds.
    pub(crate) begin: u64,
    /// When it had returned.
    pub(crate) end: u64,
    /// Its name.
    pub(crate) name: String,
    /// The file or socket it was made on, as strace's `-yy` names it, in plain text.
    pub(crate) target: String,
    /// Its arguments; all strings as hex (`\x61`).
    pub(crate) arguments: String,
    /// What it returned.
    pub(crate) result: i64,
}

impl Call {
    /// Whether it handed `bytes` over.
    pub(crate) fn carries(&self, bytes: &[u8]) -> bool {
        let needle: String = bytes.iter().map(|byte| format!("\\x{byte:02x}")).collect();
        self.arguments.contains(&needle)
    }

    /// Whether it writes.
    pub(crate) fn writes(&self) -> bool {
        ["write", "writev", "pwrite64", "pwritev", "pwritev2", "sendto", "sendmsg"].contains(&self.name.as_str())
    }

    /// Whether it syncs a file, and did.
    pub(crate) fn synced(&self) -> bool {
        ["fdatasync", "fsync"].contains(&self.name.as_str()) && self.result == 0
    }

    /// Whether it was made on a TCP socket.
    pub(crate) fn on_socket(&self) -> bool {
        self.target.starts_with("TCP")
    }
}

/// A trace in the making: one file a thread, so that no line is torn.
#[derive(Debug)]
pub(crate) struct Trace {
    prefix: PathBuf,
}

impl Trace {
    /// A trace into that folder.
    pub(crate) fn in_folder(folder: &Path) -> Self {
        Self { prefix: folder.join("trace") }
    }

    /// The command that runs the gateway so that it is traced. The gateway stays a child of the caller (`-D`).
    pub(crate) fn wrapper(&self) -> Vec<String> {
        let calls = "trace=write,writev,pwrite64,pwritev,pwritev2,sendto,sendmsg,fdatasync,fsync";
        let out = self.prefix.display().to_string();
        ["strace", "-D", "-ff", "-qq", "-ttt", "-T", "-yy", "-xx", "-s", "1048576", "-e", calls, "-o", &out]
            .map(str::to_owned)
            .into()
    }

    /// The finished calls so far, by when they began.
    pub(crate) fn calls(&self) -> Outcome<Vec<Call>> {
        let folder = self.prefix.parent().ok_or("a trace without a folder")?;
        let mut calls = Vec::new();
        for file in fs::read_dir(folder)? {
            let path = file?.path();
            if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("trace.")) {
                calls.extend(fs::read_to_string(path)?.lines().filter_map(parse));
            }
        }
        calls.sort_by_key(|call| call.begin);
        Ok(calls)
    }
}

/// A text in which some characters are written as `\x61`.
fn plain(text: &str) -> String {
    let mut parts = text.split("\\x");
    let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        let (code, rest) = part.split_at_checked(2).unwrap_or((part, ""));
        bytes.extend(u8::from_str_radix(code, 16));
        bytes.extend_from_slice(rest.as_bytes());
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// `1700000000.123456 fdatasync(7</data/events/0.seg>) = 0 <0.000123>`; `None` for anything else, as signals.
fn parse(line: &str) -> Option<Call> {
    let (begin, rest) = line.split_once(' ')?;
    let (name, rest) = rest.split_once('(')?;
    let (rest, took) = rest.rsplit_once(" <")?;
    let (arguments, result) = rest.rsplit_once(") = ")?;
    // The target: what stands between the outermost < > behind the first number. `-yy` writes sockets as TCP:[a->b].
    let (_, after) = arguments.split_once('<')?;
    let target = after.split(">,").next()?.trim_end_matches('>');
    let micros = |text: &str| -> Option<u64> {
        let (whole, fraction) = text.split_once('.')?;
        Some(whole.parse::<u64>().ok()? * 1_000_000 + fraction.parse::<u64>().ok()?)
    };
    let begin = micros(begin)?;
    Some(Call {
        begin,
        end: begin + micros(took.trim_end_matches('>'))?,
        name: name.to_owned(),
        target: plain(target),
        arguments: arguments.to_owned(),
        result: result.split(' ').next()?.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_strace_are_understood() -> Outcome<()> {
        let sync = parse(r"1700000000.000010 fdatasync(7<\x2fd/events/0.se\x67>) = 0 <0.000123>").ok_or("sync")?;
        assert!(sync.synced() && sync.target == "/d/events/0.seg" && sync.end - sync.begin == 123);
        let write =
            parse(r#"1.000002 writev(9<TCP:[127.0.0.1:1->127.0.0.1:2]>, [{iov_base="\x61\x62", iov_len=2}], 1) = 2 <0.000005>"#);
        let write = write.ok_or("write")?;
        assert!(write.on_socket() && write.writes() && write.carries(b"ab") && !write.carries(b"ac"));
        assert!(
            parse("1.000003 fdatasync(7</d/0.seg>) = -1 EIO (Input/output error) <0.000001>").is_some_and(|call| !call.synced())
        );
        assert!(parse("1.000004 --- SIGTERM {si_signo=SIGTERM} ---").is_none());
        Ok(())
    }
}
