//! `GET /v1/compare`: compares a person in several results, or in groups of results.

use axum::Json;
use axum::extract::{Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use utoipa::IntoParams;
use utoipa_axum::routes;
use uuid::Uuid;

use crate::analysis::{Comparison, NoTake, Subject, Take};
use crate::api::access::{OptionalKey, Read};
use crate::api::auth::Authorized;
use crate::api::endpoint::Endpoint;
use crate::api::openapi::NATIVE;
use crate::api::problem::detail;
use crate::api::view::{self, NO_STORE};
use crate::api::{Api, AppState, Caller, Problem};

type Rule = OptionalKey<Read>;

pub(in crate::api) fn endpoint() -> Endpoint {
    Endpoint::new::<Rule>(routes!(handle))
}

/// The most results in a comparison.
const MOST_RESULTS: usize = 100;
/// Longest name of a group, in characters.
const LONGEST_NAME: usize = 100;

#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "describes what `parse` reads")]
pub struct Parameters {
    /// Tokens of results, separated by commas. The results after the first are compared with it. A token may be followed
    /// by a colon and the number of a person in this result. Tokens and groups together are at least two.
    #[param(style = Form, explode = false, min_items = 1, max_items = 100, pattern = "^[0-9a-f-]{36}(:[1-9][0-9]{0,4})?$")]
    tokens: Option<Vec<String>>,
    /// A group of results: a name, a colon, and tokens as above. Give it for each group. The groups after the first are
    /// compared with it.
    #[param(
        min_items = 1,
        max_items = 100,
        pattern = "^[^:]{1,100}:[0-9a-f-]{36}(:[1-9][0-9]{0,4})?(,[0-9a-f-]{36}(:[1-9][0-9]{0,4})?)*$"
    )]
    group: Option<Vec<String>>,
    /// The number of the person in results whose token names none. By default the person who was seen in most samples.
    #[param(minimum = 1, maximum = 99_999)]
    person: Option<u32>,
}

/// A result, or a group of results, that is to be compared.
#[derive(Debug, PartialEq)]
struct Wanted {
    /// The name of a group, or the token of a single result.
    name: String,
    /// A token, and the number of a person.
    takes: Vec<(Uuid, Option<u32>)>,
}

/// Compare results
///
/// Compares the figures of one person in several results, or in groups of results, and marks the differences beyond
/// chance: those whose 95 % interval does not hold 0. About one in twenty differences without a cause gets a mark.
#[utoipa::path(get, path = "/v1/compare", operation_id = "compare", tag = NATIVE, params(Parameters),
    responses((status = 200, description = "The figures and their differences", body = Comparison),
              (status = 404, description = "No analysis has this `token`"),
              (status = 409, description = "The analysis of `token` is not finished, or was cancelled"),
              (status = 410, description = "The result of `token` has expired"),
              (status = 422, description = "A parameter is wrong; `parameter` names it. Or the result of `token` has no \
                                            such person, or the analysis failed")))]
pub(in crate::api) async fn handle(
    State(api): State<Api>,
    caller: Authorized<Rule>,
    parameters: Result<Query<Vec<(String, String)>>, axum::extract::rejection::QueryRejection>,
) -> Result<Response, Problem> {
    let Query(parameters) = parameters.map_err(|_| bad("query"))?;
    let wanted = parse(&parameters)?;
    let mut subjects = Vec::with_capacity(wanted.len());
    for Wanted { name, takes } in wanted {
        let mut found = Vec::with_capacity(takes.len());
        for (token, person) in takes {
            let take = take(&api.app, &caller, token, person).await;
            found.push(take.map_err(|problem| problem.with("token", token.to_string()))?);
        }
        subjects.push(Subject::of_group(name, found));
    }
    Ok(([(header::CACHE_CONTROL, NO_STORE)], Json(Comparison::new(subjects))).into_response())
}

async fn take(app: &AppState, caller: &Caller, token: Uuid, person: Option<u32>) -> Result<Take, Problem> {
    let job = view::done(app, caller, token).await?;
    let analysis = app.store.analysis(job.token).await?.ok_or_else(view::unknown)?;
    Take::new(token.to_string(), &analysis, person).map_err(|reason| {
        let detail = match reason {
            NoTake::NoFace => detail::not_comparable_no_face(),
            NoTake::NoSuchPerson(person) => detail::not_comparable_person(person),
            NoTake::NoIntervals => detail::not_comparable_intervals(),
        };
        Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail)
    })
}

fn parse(parameters: &[(String, String)]) -> Result<Vec<Wanted>, Problem> {
    let mut person = None;
    for (_, text) in parameters.iter().filter(|(name, _)| name == "person") {
        person = Some(number(text).ok_or_else(|| bad("person"))?);
    }
    let takes = |parameter: &str, text: &str| {
        let takes = text.split(',').map(|text| wanted(text, person)).collect::<Option<Vec<_>>>();
        takes.ok_or_else(|| bad(parameter))
    };
    let mut subjects = Vec::new();
    for (parameter, text) in parameters {
        match parameter.as_str() {
            "tokens" => {
                let single = |take: (Uuid, _)| Wanted { name: take.0.to_string(), takes: vec![take] };
                subjects.extend(takes(parameter, text)?.into_iter().map(single));
            }
            "group" => {
                let (name, tokens) = text.split_once(':').ok_or_else(|| bad(parameter))?;
                if name.is_empty() || name.chars().count() > LONGEST_NAME {
                    return Err(bad(parameter));
                }
                subjects.push(Wanted { name: name.to_owned(), takes: takes(parameter, tokens)? });
            }
            _ => {}
        }
    }
    let results: usize = subjects.iter().map(|wanted| wanted.takes.len()).sum();
    if subjects.len() < 2 || results > MOST_RESULTS {
        return Err(bad("tokens"));
    }
    Ok(subjects)
}

/// Parses a token, which may be followed by a colon and the number of a person.
fn wanted(text: &str, person: Option<u32>) -> Option<(Uuid, Option<u32>)> {
    match text.split_once(':') {
        Some((token, person)) => Some((Uuid::try_parse(token).ok()?, Some(number(person)?))),
        None => Some((Uuid::try_parse(text).ok()?, person)),
    }
}

fn number(text: &str) -> Option<u32> {
    text.parse().ok().filter(|number| *number > 0)
}

fn bad(parameter: &str) -> Problem {
    let detail = detail::bad_parameter_compare(MOST_RESULTS);
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail).with("parameter", parameter)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str = "00000000-0000-4000-8000-000000000001";
    const TWO: &str = "00000000-0000-4000-8000-000000000002";

    fn parse(query: &[(&str, &str)]) -> Result<Vec<Wanted>, String> {
        let query: Vec<_> = query.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        super::parse(&query).map_err(|problem| {
            problem.body(crate::analysis::Language::EN)["parameter"].as_str().unwrap_or_default().to_owned()
        })
    }

    fn token(text: &str) -> Uuid {
        Uuid::try_parse(text).unwrap()
    }

    #[test]
    fn tokens_and_groups_name_their_people() {
        let single = |text: &str, person| Wanted { name: text.to_owned(), takes: vec![(token(text), person)] };
        let both = format!("{ONE},{TWO}:3");
        assert_eq!(parse(&[("tokens", &both)]), Ok(vec![single(ONE, None), single(TWO, Some(3))]));
        let all = [("tokens", ONE), ("person", "2"), ("tokens", TWO), ("unknown", "x")];
        assert_eq!(parse(&all), Ok(vec![single(ONE, Some(2)), single(TWO, Some(2))]));
        let groups = [("group", &*format!("before: 1:{both}")), ("group", &*format!("after:{TWO}"))];
        assert!(parse(&groups).is_err(), "a name holds no colon");
        let groups = [("group", &*format!("before the talk:{both}")), ("group", &*format!("after:{TWO}"))];
        let group = |name: &str, takes| Wanted { name: name.to_owned(), takes };
        let (one, two) = ((token(ONE), None), (token(TWO), Some(3)));
        let wanted = vec![group("before the talk", vec![one, two]), group("after", vec![(token(TWO), None)])];
        assert_eq!(parse(&groups), Ok(wanted));
    }

    #[test]
    fn wrong_parameters_are_named() {
        let many = vec![ONE; MOST_RESULTS + 1].join(",");
        let person = format!("{ONE},{TWO}:0");
        let nameless = format!(":{ONE}");
        for (query, parameter) in [
            (vec![], "tokens"),
            (vec![("tokens", "")], "tokens"),
            (vec![("tokens", ONE)], "tokens"),
            (vec![("tokens", &*many)], "tokens"),
            (vec![("tokens", &*person)], "tokens"),
            (vec![("tokens", "x,y")], "tokens"),
            (vec![("tokens", ONE), ("tokens", TWO), ("person", "0")], "person"),
            (vec![("tokens", ONE), ("tokens", TWO), ("person", "me")], "person"),
            (vec![("group", ONE), ("group", TWO)], "group"),
            (vec![("group", &*nameless), ("tokens", TWO)], "group"),
        ] {
            assert_eq!(parse(&query), Err(parameter.to_owned()), "{query:?}");
        }
    }
}
