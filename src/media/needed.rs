//! Which packets a decoder has to be given for the pictures that are wanted.

use super::look::{Look, Start};
use super::references::{Count, Needs};

/// A packet of a stretch, as others hang on it.
pub(super) struct Link<'a> {
    /// Counts all packets of the stream, in the order of decoding.
    pub place: u64,
    pub look: Look,
    /// Which of those before it it needs, where its headers tell.
    pub needs: Option<&'a Needs>,
}

/// What a picture is decoded for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Use {
    Nothing,
    /// It has to be there, whatever it shows.
    Presence,
    Picture,
}

/// Which units have to be decoded for the wanted ones.
pub(super) fn used(units: &[Link<'_>], wanted: &[bool]) -> Vec<bool> {
    let mut forced = vec![false; units.len()];
    loop {
        let uses = needed(units, wanted, &forced);
        let mut is_settled = true;
        for at in astray(units, &uses) {
            is_settled &= std::mem::replace(&mut forced[at], true);
        }
        if is_settled {
            return uses.into_iter().map(|used| used > Use::Nothing).collect();
        }
    }
}

/// What each unit is needed for, where some have to be there in any case.
fn needed(units: &[Link<'_>], wanted: &[bool], forced: &[bool]) -> Vec<Use> {
    let mut uses = vec![Use::Nothing; units.len()];
    // Every reference before is needed.
    let mut all = false;
    let last = wanted.iter().rposition(|wanted| *wanted).map_or(0, |last| last + 1);
    for at in (0..last).rev() {
        let Link { look, needs, .. } = &units[at];
        if wanted[at] || all && !look.is_droppable {
            uses[at] = Use::Picture;
        } else if look.carries_more || forced[at] {
            uses[at] = uses[at].max(Use::Presence);
        }
        if uses[at] < Use::Picture {
            continue;
        }
        let Some(needs) = needs else {
            all = true;
            continue;
        };
        // One that is not among them was given out before.
        let find = |place: &u64| units.binary_search_by_key(place, |unit| unit.place).ok();
        for before in needs.exact.iter().filter_map(find) {
            uses[before] = Use::Picture;
        }
        for before in needs.held.iter().filter_map(find).filter(|_| !needs.is_by_number) {
            uses[before] = uses[before].max(Use::Presence);
        }
    }
    uses
}

/// Follows what a decoder holds that is given what is needed alone, and puts something in the place of each reference it is not
/// given. Gives units that have to be there as well: where a picture would find other references than it asks for, those that
/// tell the decoder to let go what is held too long; where it would lose count, the references that were passed over.
fn astray(units: &[Link<'_>], uses: &[Use]) -> Vec<usize> {
    let last = uses.iter().rposition(|used| *used > Use::Nothing).map_or(0, |last| last + 1);
    let mut held: Option<Vec<u64>> = None;
    // The last reference given, and how many were not since.
    let (mut counted, mut passed) = (None::<(usize, Count)>, 0);
    let mut missing = Vec::new();
    for at in 0..last {
        let Link { look, needs, .. } = &units[at];
        // Before one whose needs are unknown, nothing was left out.
        let Some(needs) = needs else { break };
        // Of a stretch that goes on, everything was given before.
        let held = held.get_or_insert_with(|| needs.held.clone());
        if look.start == Start::Closed {
            held.clear();
            (counted, passed) = (None, 0);
        }
        if let (true, Some((before, from))) = (uses[at] > Use::Nothing, counted) {
            let Count { order, orders, number, numbers } = needs.count;
            let is_far = orders.is_some_and(|orders| 2 * (order - from.order).abs() >= orders) || passed >= numbers - 1;
            // Without orders, the place follows from how often the numbers began anew (8.2.1.2 and 8.2.1.3). Over references
            // that are missing, FFmpeg's decoder counts that only at number 0.
            let is_miscounted = orders.is_none() && number < from.number && number != 0;
            if is_far || is_miscounted {
                missing.extend((before + 1..at).filter(|between| !units[*between].look.is_droppable));
            }
        }
        let finds =
            if needs.is_by_number { needs.exact.iter().all(|place| held.contains(place)) } else { *held == needs.held };
        if uses[at] == Use::Picture && !finds {
            let too_long = |place: &u64| held.contains(place) && !needs.held.contains(place);
            let lets_go = |unit: &Link<'_>| {
                let kept = unit.needs.and_then(|needs| needs.kept.as_ref());
                kept.is_some_and(|kept| kept.instead_of.iter().any(too_long))
            };
            let before = missing.len();
            missing.extend((0..at).filter(|earlier| uses[*earlier] == Use::Nothing && lets_go(&units[*earlier])));
            if missing.len() == before {
                // It is not known why: every reference before it.
                missing.extend((0..at).filter(|earlier| !units[*earlier].look.is_droppable));
            }
        }
        if let Some(kept) = &needs.kept {
            let is_given = uses[at] > Use::Nothing;
            (counted, passed) = if is_given { (Some((at, needs.count)), 0) } else { (counted, passed + 1) };
            let told: &[u64] = if is_given { &kept.instead_of } else { &[] };
            held.retain(|place| !told.contains(place));
            if told.is_empty() && held.len() >= kept.room {
                held.remove(0);
            }
            held.push(units[at].place);
        }
    }
    missing
}
