//! `visage doctor`: checks everything that the service needs, and prints how to fix problems. It changes nothing,
//! except that it creates the folders that the service itself creates at start.

mod checks;
mod models;

use std::path::Path;

use serde::Serialize;

use super::Failure;
use crate::config::Settings;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Print one JSON object instead of lines.
    #[arg(long)]
    json: bool,
}

/// The outcome of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum State {
    Ok,
    /// It works, but not as well as it could, or may soon fail.
    Warn,
    /// The settings require it, but it is missing or does not work.
    Missing,
}

/// The result of one check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Finding {
    name: &'static str,
    state: State,
    /// Description of what was found or of the problem.
    found: String,
    /// How to fix the problem.
    #[serde(skip_serializing_if = "Option::is_none")]
    cure: Option<String>,
}

impl Finding {
    fn ok(name: &'static str, found: impl Into<String>) -> Self {
        Self { name, state: State::Ok, found: found.into(), cure: None }
    }

    fn warn(name: &'static str, found: impl Into<String>, cure: impl Into<String>) -> Self {
        Self { name, state: State::Warn, found: found.into(), cure: Some(cure.into()) }
    }

    fn missing(name: &'static str, found: impl Into<String>, cure: impl Into<String>) -> Self {
        Self { name, state: State::Missing, found: found.into(), cure: Some(cure.into()) }
    }
}

/// Runs all checks and prints the findings. The exit code is 4 if something is missing.
pub fn run(args: Args, settings: Settings, config: Option<&Path>) -> Result<(), Failure> {
    let findings = checks::all(&settings, config)?;
    let missing = findings.iter().filter(|finding| finding.state == State::Missing).count();
    if args.json {
        let report = serde_json::json!({ "ok": missing == 0, "checks": findings });
        println!("{report:#}");
    } else {
        print!("{}", lines(&findings));
    }
    match missing {
        0 => Ok(()),
        1 => Err(Failure::Missing("one requirement is missing".to_owned())),
        n => Err(Failure::Missing(format!("{n} requirements are missing"))),
    }
}

/// Formats each finding as a line, with its fix on a second line.
fn lines(findings: &[Finding]) -> String {
    let width = findings.iter().map(|finding| finding.name.len()).max().unwrap_or(0);
    let mut text = String::new();
    for Finding { name, state, found, cure } in findings {
        let state = match state {
            State::Ok => "ok",
            State::Warn => "warn",
            State::Missing => "missing",
        };
        text += &format!("{state:<8}{name:<width$}  {found}\n");
        if let Some(cure) = cure {
            text += &format!("{:<8}{:<width$}  -> {cure}\n", "", "");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_has_one_line_and_its_fix_another() {
        let findings =
            [Finding::ok("cores", "2"), Finding::missing("models", "yunet is not there", "visage models pull")];
        assert_eq!(
            lines(&findings),
            "ok      cores   2\nmissing models  yunet is not there\n                -> visage models pull\n"
        );
    }

    #[test]
    fn findings_in_json_have_state_and_fix() {
        let finding = serde_json::to_value(Finding::warn("disk", "little", "make room")).unwrap();
        assert_eq!(
            finding,
            serde_json::json!({"name": "disk", "state": "warn", "found": "little", "cure": "make room"})
        );
        assert!(serde_json::to_value(Finding::ok("disk", "much")).unwrap().get("cure").is_none());
    }
}
