//! Who calls. Whoever serves the calls finds that out and puts a [`Caller`] into the request's extensions; the calls ask it what they may.

use tonic::{Extensions, Status};

/// Who calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Caller {
    /// An agent that has shown its own token. It speaks for itself only.
    Agent(String),
    /// An agent without a token, where the operator lets those in: it is whom it says it is. It may say how it and its steps
    /// stand, and cannot be given work.
    StockAgent,
    /// Somebody, where nobody has to show who they are: they are whom they say they are, and may do everything.
    Anyone,
    /// A person or a script.
    User {
        /// For events and texts.
        name: String,
        /// What they may do.
        role: Role,
    },
}

/// What a person or a script may do; each may do what those before it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Look.
    Viewer,
    /// Run pipelines, stop what runs.
    Operator,
    /// Everything.
    Admin,
}

impl Role {
    const ALL: [Self; 3] = [Self::Viewer, Self::Operator, Self::Admin];

    /// Its name, as settings and rows have it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Admin => "admin",
        }
    }

    /// The role of a name; nothing: there is none.
    #[must_use]
    pub fn of_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.word() == word)
    }
}

impl Caller {
    /// The caller of a request.
    ///
    /// # Errors
    /// If nobody said who that is: then nothing is allowed.
    pub fn of(extensions: &Extensions) -> Result<&Self, Status> {
        extensions.get().ok_or_else(|| Status::unauthenticated("a token is needed: send `authorization: Bearer <token>`"))
    }

    /// The agent that a request is about: the one that it names, and the one that calls.
    ///
    /// # Errors
    /// If it names none, or another than calls, or if no agent calls.
    pub fn as_agent(&self, named: &str) -> Result<String, Status> {
        match self {
            Self::Agent(own) if named.is_empty() || named == own => Ok(own.clone()),
            Self::Agent(own) => {
                Err(Status::permission_denied(format!("this is the token of agent {own}: it cannot speak for agent {named}")))
            }
            Self::StockAgent | Self::Anyone if named.is_empty() => Err(Status::invalid_argument("agent_id is required")),
            Self::StockAgent | Self::Anyone => Ok(named.to_owned()),
            Self::User { name, .. } => Err(Status::permission_denied(format!("{name} is no agent; this call is for agents"))),
        }
    }

    /// An agent that has shown who it is.
    ///
    /// # Errors
    /// As [`Self::as_agent`]; and if it has not.
    pub fn as_proven_agent(&self, named: &str) -> Result<String, Status> {
        if *self == Self::StockAgent || (*self == Self::Anyone && named.is_empty()) {
            return Err(Status::unauthenticated("an agent is given work only with its own token: send it as `authorization`"));
        }
        self.as_agent(named)
    }

    /// A person or a script with at least this role. Its name.
    ///
    /// # Errors
    /// If it is an agent, or may less.
    pub fn as_user(&self, least: Role) -> Result<&str, Status> {
        match self {
            Self::Anyone => Ok("anonymous"),
            Self::User { name, role } if *role >= least => Ok(name),
            Self::User { name, role } => {
                let why = format!("{name} is {role:?}, and this call needs {least:?}; use another token");
                Err(Status::permission_denied(why))
            }
            Self::Agent(id) => {
                Err(Status::permission_denied(format!("agent {id} may not do this; it is for people and scripts")))
            }
            Self::StockAgent => Err(Status::unauthenticated("a token is needed: send `authorization: Bearer <token>`")),
        }
    }
}
