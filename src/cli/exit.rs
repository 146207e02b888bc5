//! What the exit code of every command means.

use std::process::ExitCode;

/// How a command ended. Manifests rely on the numbers (`podFailurePolicy`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// 0: done, or healthy. `run` that was told to stop and has finished what was in flight ends so too.
    Done,
    /// 1: failed; a retry may help.
    Failed,
    /// 2: usage or configuration; a retry cannot help.
    Usage,
    /// 3: the answer is "no": too far behind, findings that are errors, differences, dead letters.
    No,
    /// 4: a gap was found and `on_gap: stop` is set, or it is another source.
    Gap,
    /// 128 and the signal: a one-shot command was ended with work left (143 SIGTERM, 130 SIGINT).
    Interrupted(u8),
}

impl Exit {
    /// The number.
    pub fn code(self) -> u8 {
        match self {
            Exit::Done => 0,
            Exit::Failed => 1,
            Exit::Usage => 2,
            Exit::No => 3,
            Exit::Gap => 4,
            Exit::Interrupted(signal) => 128_u8.saturating_add(signal),
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(exit.code())
    }
}

/// A command that could not be carried out: what to say, and how to end.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// How the command ends.
    pub exit: Exit,
    /// What is said, with its causes and its cure.
    pub message: String,
}

impl Failure {
    /// A failure with its message.
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Failure { exit, message: message.into() }
    }

    /// A failure of an error and all its causes.
    pub fn of(exit: Exit, error: &dyn std::error::Error) -> Self {
        let mut message = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            let cause_text = cause.to_string();
            // Many errors repeat their cause in their own text.
            if !message.contains(&cause_text) {
                message.push_str(": ");
                message.push_str(&cause_text);
            }
            source = cause.source();
        }
        Failure { exit, message }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_are_the_documented_ones() {
        let all = [Exit::Done, Exit::Failed, Exit::Usage, Exit::No, Exit::Gap];
        assert_eq!(all.map(Exit::code), [0, 1, 2, 3, 4]);
        assert_eq!([Exit::Interrupted(15).code(), Exit::Interrupted(2).code()], [143, 130]);
    }
}
