//! Why a command failed, in words for people.

use std::fmt;
use std::io::{self, Write};
use std::path::PathBuf;

use arcgate_api::pipeline::v1 as pb;
use arcgate_control::db::DbError;
use arcgate_control::spec::Problem;
use prost_types::Value;
use prost_types::value::Kind;
use tonic::Code;

use super::definition::Definition;
use crate::push::target::UplinkError;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CtlError {
    /// The gateway's address or the token cannot be used.
    #[error("{0}")]
    Target(String),
    /// The gateway cannot be reached, or refuses.
    #[error("{}", of_uplink(.0))]
    Uplink(#[from] UplinkError),
    /// The gateway has answered with a no.
    #[error(transparent)]
    Business(#[from] Business),
    /// A definition cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A definition is none.
    #[error("{}", in_file(file, problems))]
    Definition {
        /// How the file is called.
        file: String,
        /// What is wrong with it.
        problems: Vec<Problem>,
    },
    /// The control plane's database.
    #[error("{0}")]
    Database(#[from] DbError),
    /// There is none.
    #[error("{} is not there; no control plane has run on it yet, or --data or --config names another one", .0.display())]
    NoDatabase(PathBuf),
    /// A setting cannot be used.
    #[error("{0}")]
    Setting(String),
    /// A folder cannot be made.
    #[error("cannot make the folder {}: {source}", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The arguments do not fit each other.
    #[error("{0}")]
    Usage(&'static str),
    /// There is no runtime.
    #[error("cannot start: {0}")]
    System(io::Error),
    /// Stdout cannot be written.
    #[error("cannot write: {0}")]
    Output(#[from] io::Error),
    /// The gateway was away too long.
    #[error("gave up after {}: {}", crate::settings::value::show_time(.0), .1)]
    GaveUp(std::time::Duration, Box<CtlError>),
}

impl From<tonic::Status> for CtlError {
    fn from(status: tonic::Status) -> Self {
        UplinkError::from(status).into()
    }
}

impl CtlError {
    /// Whether another try may help: the gateway is away, and may come back.
    pub(super) fn is_passing(&self) -> bool {
        match self {
            Self::Uplink(UplinkError::Refused(status)) => {
                // What breaks a connection is told as an unknown status with a cause.
                let broke = std::error::Error::source(&**status).is_some();
                matches!(status.code(), Code::Unavailable | Code::DeadlineExceeded) || (broke && status.code() == Code::Unknown)
            }
            Self::Uplink(_) => true,
            _ => false,
        }
    }
}

fn of_uplink(error: &UplinkError) -> String {
    let UplinkError::Refused(status) = error else {
        return format!("the gateway is away: {error}; check that it runs and that --server is its gRPC address");
    };
    match status.code() {
        Code::Unauthenticated => format!("{}; give --token-file, `arcgate token create` makes a token", status.message()),
        Code::PermissionDenied | Code::InvalidArgument => status.message().to_owned(),
        Code::Unimplemented => format!("what answers there serves no pipelines; check --server: {}", status.message()),
        Code::Unavailable => format!("the gateway is away: {error}"),
        _ => format!("the gateway cannot do it: {error}"),
    }
}

/// What is wrong with a definition, each with its place.
fn in_file(file: &str, problems: &[Problem]) -> String {
    let lines: Vec<String> = problems.iter().map(|problem| format!("{file}: {problem}")).collect();
    lines.join("\n")
}

/// The gateway understood, and says no.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Business {
    message: String,
    /// Each with its path.
    problems: Vec<(String, String)>,
    /// What else it says.
    details: Vec<(String, String)>,
}

impl std::error::Error for Business {}

impl fmt::Display for Business {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        for (path, message) in &self.problems {
            write!(f, "\n  {message}  [{path}]")?;
        }
        self.details.iter().try_for_each(|(name, value)| write!(f, "\n  {name}: {value}"))
    }
}

impl Business {
    fn new(message: &str, error: Option<&pb::Error>) -> Self {
        let mut said = Self { message: message.to_owned(), problems: Vec::new(), details: Vec::new() };
        for (name, value) in error.iter().filter_map(|error| error.details.as_ref()).flat_map(|details| &details.fields) {
            match (name.as_str(), &value.kind) {
                ("problems", Some(Kind::ListValue(list))) => said.problems = list.values.iter().filter_map(problem).collect(),
                _ => said.details.push((name.clone(), text(value))),
            }
        }
        // The message repeats them in one line.
        if !said.problems.is_empty()
            && let Some((head, _)) = said.message.split_once(": ")
        {
            said.message = head.to_owned();
        }
        said
    }

    /// The same, with the places of what is wrong in the text that was sent.
    pub(super) fn about(mut self, definition: &Definition) -> Self {
        self.message = format!("{}: {}", definition.file, self.message);
        for (path, message) in &mut self.problems {
            if let Some(place) = definition.place(path) {
                *message = format!("line {}, column {}: {message}", place.line, place.column);
            }
        }
        self
    }
}

/// What an answer comes to: nothing, or what the gateway has against it.
pub(super) fn granted(success: bool, message: &str, error: Option<&pb::Error>) -> Result<(), Business> {
    if success { Ok(()) } else { Err(Business::new(message, error)) }
}

fn problem(value: &Value) -> Option<(String, String)> {
    let Some(Kind::StructValue(fields)) = &value.kind else { return None };
    let field = |name: &str| fields.fields.get(name).map(text).unwrap_or_default();
    Some((field("path"), field("message")))
}

fn text(value: &Value) -> String {
    match &value.kind {
        Some(Kind::StringValue(text)) => text.clone(),
        Some(Kind::NumberValue(number)) => number.to_string(),
        Some(Kind::BoolValue(truth)) => truth.to_string(),
        Some(Kind::ListValue(list)) => list.values.iter().map(text).collect::<Vec<_>>().join(", "),
        Some(Kind::StructValue(fields)) => {
            fields.fields.iter().map(|(name, value)| format!("{name}: {}", text(value))).collect::<Vec<_>>().join(", ")
        }
        Some(Kind::NullValue(_)) | None => String::new(),
    }
}

/// Says on stderr what is wrong, a line at a time. A stderr that is gone is no reason to panic.
pub(super) fn complain(error: &CtlError) {
    error.to_string().lines().for_each(note);
}

/// Something for people.
pub(super) fn note(line: &str) {
    let _ = writeln!(io::stderr(), "arcgate: {line}");
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn string(text: &str) -> Value {
        Value { kind: Some(Kind::StringValue(text.into())) }
    }

    #[test]
    fn a_no_is_told_with_its_details() {
        let one =
            [("path".to_owned(), string("jobs[0].timeout")), ("message".to_owned(), string("job[0] 'j': timeout 'x' is none"))];
        let one = Value { kind: Some(Kind::StructValue(prost_types::Struct { fields: one.into() })) };
        let list = Value { kind: Some(Kind::ListValue(prost_types::ListValue { values: vec![one] })) };
        let details = |name: &str, value: Value| Some(prost_types::Struct { fields: [(name.to_owned(), value)].into() });
        let error = pb::Error { details: details("problems", list), ..Default::default() };
        let said = granted(false, "spec validation failed: job[0] 'j': timeout 'x' is none", Some(&error)).unwrap_err();
        let definition = Definition::of("ci.yaml", "namespace: a\njobs:\n- name: j\n  timeout: x\n").unwrap();
        assert_eq!(
            said.about(&definition).to_string(),
            "ci.yaml: spec validation failed\n  line 4, column 3: job[0] 'j': timeout 'x' is none  [jobs[0].timeout]"
        );
        let error = pb::Error { details: details("currentHeadCommitSha", string("abc")), ..Default::default() };
        assert_eq!(granted(false, "no", Some(&error)).unwrap_err().to_string(), "no\n  currentHeadCommitSha: abc");
        assert!(granted(true, "", None).is_ok());
    }

    #[test]
    fn what_may_pass_is_told_apart() {
        assert!(CtlError::from(tonic::Status::unavailable("")).is_passing());
        assert!(!CtlError::from(tonic::Status::not_found("")).is_passing());
        assert!(!CtlError::from(tonic::Status::unknown("")).is_passing());
        assert!(CtlError::from(UplinkError::Silent).is_passing());
    }
}
