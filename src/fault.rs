//! Whose fault an error is. Every error that can end a job says so in one exhaustive match (`fault()`), so that a new
//! variant has to choose, and the worker decides by this answer alone what becomes of the job.

/// A part of the service that can be away for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Part {
    Database,
    Storage,
    Mail,
    /// The way to other people's servers.
    Network,
    /// Memory, threads or processes of this machine.
    Memory,
    /// Models, their library or the device on which they run.
    Models,
}

impl Part {
    pub const ALL: [Self; 6] = [Self::Database, Self::Storage, Self::Mail, Self::Network, Self::Memory, Self::Models];

    /// As it stands in logs and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Database => "database",
            Self::Storage => "storage",
            Self::Mail => "mail",
            Self::Network => "network",
            Self::Memory => "memory",
            Self::Models => "models",
        }
    }
}

/// Whose fault an error is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Fault {
    /// A part of the service is away or broken: the run does not count, and the job runs again.
    Ours(Part),
    /// The video is at fault: every other run would end like this one.
    Video,
    /// The run broke off, and nothing tells whether the video is at fault: the run counts, and after
    /// `queue.max_attempts` such runs the job fails.
    Unclear,
    /// The client withdrew its request, or gave an address that nobody can use.
    Client,
}
