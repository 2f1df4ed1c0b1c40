//! The statement of a sender that the people in a video or picture were informed: `notice=given`, with
//! `notice_version` if the notice of this service was shown. A form has it as fields, a JSON body as members, and every
//! address may have it in the query.

use axum::extract::Query;
use axum::http::{StatusCode, Uri};
use utoipa::ToSchema;

use super::file_source::FileSource;
use super::problem::detail;
use super::{AppState, Problem};
use crate::analysis::{Language, Notice};

/// The names of its fields.
const FIELDS: [&str; 2] = ["notice", "notice_version"];

/// The value of the field `notice`.
#[derive(ToSchema)]
#[schema(as = NoticeStatement, rename_all = "lowercase")]
#[expect(dead_code, reason = "describes what `NoticeStatement` reads")]
pub enum NoticeValue {
    Given,
}

/// The statement of a request about the notice.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NoticeStatement {
    given: bool,
    /// The version of the notice that was shown.
    version: Option<String>,
}

/// Why a statement is rejected.
#[derive(Debug, thiserror::Error)]
pub enum NoticeError {
    #[error("the request does not say that the people in the video were informed")]
    Missing,
    #[error("the field notice is neither empty nor given")]
    UnknownValue,
    #[error("another version of the notice was shown")]
    Outdated { current: String },
}

impl NoticeStatement {
    /// The statement in the query of an address.
    pub fn from_query(uri: &Uri) -> Result<Self, NoticeError> {
        let mut statement = Self::default();
        let parameters = Query::<Vec<(String, String)>>::try_from_uri(uri).map(|Query(parameters)| parameters);
        for (name, given) in parameters.unwrap_or_default() {
            if let Some(field) = Self::field(&name) {
                statement.set(field, &given)?;
            }
        }
        Ok(statement)
    }

    /// The name of a field of the statement.
    pub fn field(name: &str) -> Option<&'static str> {
        FIELDS.into_iter().find(|field| *field == name)
    }

    /// Reads a field. Overrides an earlier value. An empty value, which a web form may send, states nothing.
    pub fn set(&mut self, field: &str, given: &str) -> Result<(), NoticeError> {
        let given = given.trim();
        if field == "notice" {
            self.given = match given {
                "" => false,
                "given" => true,
                _ => return Err(NoticeError::UnknownValue),
            };
        } else {
            self.version = Some(given.to_owned()).filter(|version| !version.is_empty());
        }
        Ok(())
    }

    /// Reads the members of a JSON body. Unlike the field of a form, `notice` must not be empty.
    pub fn set_members(&mut self, notice: Option<&str>, version: Option<&str>) -> Result<(), NoticeError> {
        if notice.is_some_and(|notice| notice.trim().is_empty()) {
            return Err(NoticeError::UnknownValue);
        }
        for (field, given) in FIELDS.into_iter().zip([notice, version]) {
            given.map_or(Ok(()), |given| self.set(field, given))?;
        }
        Ok(())
    }

    /// Checks the statement, and returns the record to store. `language` is the language of the request.
    pub fn record(&self, app: &AppState, language: Option<Language>) -> Result<Option<Notice>, NoticeError> {
        let notice = app.reporter.notice();
        if self.version.as_ref().is_some_and(|version| *version != notice.version) {
            return Err(NoticeError::Outdated { current: notice.version.clone() });
        }
        if !self.given {
            let is_required = app.settings.notice.required;
            return if is_required { Err(NoticeError::Missing) } else { Ok(None) };
        }
        let shown = self.version.as_ref().map(|_| notice.shown(language.unwrap_or_default()));
        Ok(Some(Notice { given_at: app.clock.now(), shown }))
    }
}

impl NoticeError {
    /// The answer of a call that receives its file from this source.
    pub fn problem(self, source: FileSource) -> Problem {
        let statement = match source {
            FileSource::Upload | FileSource::Content => "\"notice\": \"given\"",
            FileSource::Body => "?notice=given",
            FileSource::Field | FileSource::Frame => "notice=given",
        };
        let of = |detail| Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail);
        let problem = match self {
            Self::Missing => of(detail::notice_missing(statement)),
            Self::UnknownValue => of(detail::bad_option_notice(statement)),
            Self::Outdated { current } => of(detail::notice_outdated()).with("version", current),
        };
        problem.with("field", "notice")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(query: &str) -> Result<NoticeStatement, NoticeError> {
        NoticeStatement::from_query(&format!("/predict?{query}").parse().unwrap())
    }

    #[test]
    fn a_statement_is_read_from_the_query_and_overridden_by_members() {
        let given = NoticeStatement { given: true, version: Some("v1".to_owned()) };
        assert_eq!(of("notice=given&notice_version=v1&other=2").unwrap(), given);
        assert_eq!(of("").unwrap(), NoticeStatement::default());
        assert_eq!(of("notice=").unwrap(), NoticeStatement::default());
        assert!(matches!(of("notice=yes"), Err(NoticeError::UnknownValue)));
        let mut statement = of("notice_version=v0").unwrap();
        statement.set_members(Some("given"), Some("v1")).unwrap();
        assert_eq!(statement, given);
    }
}
