//! Which packets of a video are decoded, and which of their pictures are looked at.
//!
//! Packets come in the order in which they are decoded, each with its time stamp and a [`Look`] into it. From these alone
//! follows which picture of the video each one becomes, so pictures are numbered without decoding them; and what no
//! picture looked at needs is left out: pictures that no other refers to, everything behind the last one looked at before
//! decoding may begin anew, and whole stretches in which nothing is looked at. A stretch goes from one place where
//! decoding may begin to the next, so different decoders can have different stretches.

use super::clock::StreamClock;
use super::look::{Look, Start};
use super::needed::{Link, used};
use super::references::Needs;
use crate::analysis::Sampling;

/// A stretch longer than this is given out in parts ...
const PART_UNITS: usize = 512;
/// ... and so is one larger than this.
const PART_BYTES: usize = 8 << 20;
/// So many packets after one, every picture that is shown before its own has come: the longest reordering in use is 64.
const SETTLED_AFTER: usize = 96;

/// Which pictures are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Selection {
    /// Every so manieth, beginning with the first.
    Every(u64),
    /// So many, evenly spread over so many: the first of each part when these are cut into parts of one length.
    Spread { count: u64, of: u64 },
}

impl Selection {
    pub fn asks_for(self, number: u64) -> bool {
        match self {
            Self::Every(every) => number.is_multiple_of(every.max(1)),
            Self::Spread { count, of } if of <= count => number < of,
            Self::Spread { count, of } => {
                let part = number.saturating_mul(count).div_ceil(of);
                part < count && part.saturating_mul(of) / count == number
            }
        }
    }

    /// Pictures from one to the next, on average.
    fn interval(self) -> u64 {
        match self {
            Self::Every(every) => every.max(1),
            Self::Spread { count, of } => (of / count.max(1)).max(1),
        }
    }
}

/// A packet as it comes from the file.
#[derive(Debug)]
pub(super) struct Unit<P> {
    pub packet: P,
    pub bytes: usize,
    /// Where its picture is shown among the others, in ticks of `base` seconds.
    pub stamp: i64,
    /// The same as the file says it, where it does.
    pub told: Option<i64>,
    pub look: Look,
    /// Set by the planner: see [`Planned::is_lead`].
    pub is_lead: bool,
    /// Which of the units before it it needs, where its headers tell.
    pub needs: Option<Needs>,
}

/// A packet to decode.
#[derive(Debug, PartialEq)]
pub(super) struct Planned<P> {
    pub packet: P,
    /// The number and the time in seconds of its picture, unless it is never shown.
    pub shown: Option<(u64, f64)>,
    pub is_wanted: bool,
    /// It may be a little rougher, and so may those that need it.
    pub may_be_rough: bool,
    /// It comes before the first place where decoding may begin, and what it needs may be missing from the file.
    pub is_lead: bool,
    /// Its place among all packets, in the order of decoding.
    pub place: u64,
    /// The places of those it is predicted from, as far as its headers tell.
    pub needs: Vec<u64>,
}

impl<P> Planned<P> {
    /// One of which nothing is known.
    pub const fn plain(packet: P) -> Self {
        Self { packet, shown: None, is_wanted: true, may_be_rough: false, is_lead: false, place: 0, needs: Vec::new() }
    }
}

/// What is to be decoded in one go, after what came before of the same stretch.
#[derive(Debug, PartialEq)]
pub(super) struct Part<P> {
    pub packets: Vec<Planned<P>>,
    /// The next part begins another stretch.
    pub is_end: bool,
}

struct Pending<P> {
    /// Counts all units.
    place: u64,
    unit: Unit<P>,
    shown: Option<(u64, f64)>,
    is_numbered: bool,
}

pub(super) struct Planner<P> {
    selection: Selection,
    /// Pictures from one that is asked for to the next.
    every: u64,
    sampling: Sampling,
    base: f64,
    clock: StreamClock,
    /// Since the last stretch, or part of one, was given out.
    pending: Vec<Pending<P>>,
    bytes: usize,
    /// The first of `pending` is in the middle of a stretch.
    is_continued: bool,
    /// Where decoding might begin anew, in `pending`: not decided until the pictures shown before it are known.
    candidate: Option<usize>,
    /// Units taken so far.
    taken: u64,
    /// Pictures numbered so far.
    numbered: u64,
    /// The picture that the next stretch begins with is wanted in place of one before it.
    next_stands_in: bool,
    /// The last picture that is wanted.
    last_wanted: Option<u64>,
    /// Decoding could not have begun anew yet.
    is_first: bool,
    /// The stream begins with a picture with which decoding may not.
    leads: bool,
}

impl<P> Planner<P> {
    /// For these pictures of a stream whose time stamps count `base` seconds.
    pub fn new(selection: Selection, sampling: Sampling, base: f64, clock: StreamClock) -> Self {
        Self {
            selection,
            every: selection.interval(),
            sampling,
            base,
            clock,
            pending: Vec::new(),
            bytes: 0,
            is_continued: false,
            candidate: None,
            taken: 0,
            numbered: 0,
            next_stands_in: false,
            last_wanted: None,
            is_first: true,
            leads: false,
        }
    }

    /// Pictures that the packets given out hold, shown or not looked at.
    pub const fn numbered(&self) -> u64 {
        self.numbered
    }

    /// Of those pictures.
    pub const fn clock(&self) -> &StreamClock {
        &self.clock
    }

    /// Takes the next packet; gives what it settles.
    pub fn push(&mut self, mut unit: Unit<P>) -> Option<Part<P>> {
        let start = unit.look.start;
        let may_begin = start != Start::No && !self.pending.is_empty();
        if self.taken == 0 {
            self.leads = start == Start::No;
        }
        self.is_first &= !may_begin;
        unit.is_lead = self.leads && self.is_first;
        // At the very start there is nothing before, and the decoder leaves such pictures out.
        unit.look.is_shown &= !(self.is_first && unit.look.needs_before);
        let mut part = None;
        if let Some(at) = self.candidate {
            if may_begin || unit.stamp > self.pending[at].unit.stamp {
                part = self.begin_anew(at);
            } else if self.pending.len() - at > SETTLED_AFTER {
                // Time stamps that make no sense: what waits for them would wait for ever.
                self.candidate = None;
            }
        }
        if may_begin {
            self.candidate = Some(self.pending.len());
        }
        self.bytes += unit.bytes;
        self.pending.push(Pending { place: self.taken, unit, shown: None, is_numbered: false });
        self.taken += 1;
        if let (Start::Closed, None, Some(at)) = (start, &part, self.candidate) {
            part = self.begin_anew(at);
        }
        part.or_else(|| self.overfull())
    }

    /// The end of the file: the rest.
    pub fn finish(&mut self) -> Option<Part<P>> {
        self.number(|_| true);
        let all = std::mem::take(&mut self.pending);
        self.give(all, None)
    }

    /// Ends the stretch before a picture that decoding may begin with, unless a picture is wanted that comes after it,
    /// is shown before it, and may need both sides.
    fn begin_anew(&mut self, at: usize) -> Option<Part<P>> {
        self.candidate = None;
        let start = self.pending[at].unit.stamp;
        let is_leading = |pending: &Pending<P>| pending.unit.stamp < start;
        let mut index = 0;
        self.number(|pending| {
            index += 1;
            index <= at || is_leading(pending)
        });
        let mut leading = self.pending[at + 1..].iter().filter(|pending| is_leading(pending));
        if self.sampling == Sampling::Exact && leading.any(|pending| self.is_asked_for(pending)) {
            return None;
        }
        let mut rest = self.pending.split_off(at);
        rest.retain(|pending| !is_leading(pending));
        self.bytes = rest.iter().map(|pending| pending.unit.bytes).sum();
        let old = std::mem::replace(&mut self.pending, rest);
        self.give(old, Some(self.numbered))
    }

    /// Gives out a part where a stretch gets too long to be held whole.
    fn overfull(&mut self) -> Option<Part<P>> {
        let is_long = self.pending.len() > PART_UNITS || self.bytes > PART_BYTES;
        let settled = self.pending.len().saturating_sub(SETTLED_AFTER);
        if !is_long || settled == 0 || self.candidate.is_some() {
            return None;
        }
        let latest = self.pending[..settled].iter().map(|pending| pending.unit.stamp).max()?;
        self.number(|pending| pending.unit.stamp <= latest);
        let rest = self.pending.split_off(settled);
        let part = std::mem::replace(&mut self.pending, rest);
        self.bytes = self.pending.iter().map(|pending| pending.unit.bytes).sum();
        self.is_continued = true;
        let packets = part.into_iter().filter_map(|pending| {
            let is_wanted = self.is_asked_for(&pending);
            (is_wanted || !pending.unit.look.is_droppable).then(|| self.planned(pending, is_wanted))
        });
        Some(Part { packets: packets.collect(), is_end: false })
    }

    /// Numbers those pending pictures that are chosen, in the order in which they are shown.
    fn number(&mut self, mut choose: impl FnMut(&Pending<P>) -> bool) {
        let mut chosen: Vec<&mut Pending<P>> = Vec::new();
        for pending in &mut self.pending {
            if choose(pending) && !pending.is_numbered {
                chosen.push(pending);
            }
        }
        chosen.sort_by_key(|pending| pending.unit.stamp);
        for pending in chosen {
            pending.is_numbered = true;
            if pending.unit.look.is_shown {
                #[expect(clippy::cast_precision_loss, reason = "seconds need no 53 bits")]
                let stamp = pending.unit.told.map(|ticks| ticks as f64 * self.base);
                pending.shown = Some((self.numbered, self.clock.tick(stamp)));
                self.numbered += 1;
            }
        }
    }

    fn is_asked_for(&self, pending: &Pending<P>) -> bool {
        pending.shown.is_some_and(|(number, _)| self.selection.asks_for(number))
    }

    /// The last, or only, part of a stretch; `next` is the number of the picture that the next one begins with.
    fn give(&mut self, old: Vec<Pending<P>>, next: Option<u64>) -> Option<Part<P>> {
        let is_continued = std::mem::take(&mut self.is_continued);
        let mut wanted: Vec<bool> = old.iter().map(|pending| self.is_asked_for(pending)).collect();
        if self.sampling == Sampling::Fast {
            wanted = self.cheap(&old, is_continued, next);
        }
        let is_used = used(&links(&old), &wanted);
        let mut packets: Vec<_> = old
            .into_iter()
            .zip(wanted)
            .zip(is_used)
            .filter_map(|((pending, is_wanted), is_used)| is_used.then(|| self.planned(pending, is_wanted)))
            .collect();
        if let (Some(last), Sampling::Fast) = (packets.last_mut(), self.sampling) {
            last.may_be_rough = true;
        }
        (is_continued || !packets.is_empty()).then_some(Part { packets, is_end: true })
    }

    /// Pictures that cost little in place of those asked for. Where stretches are at most one and a half intervals long, their
    /// beginnings alone, as many as there are three quarters of an interval or more apart. Elsewhere a beginning that stands within half an interval, else
    /// the nearest picture within a quarter that is decoded anyway: one that the last of the stretch needs, or that others do.
    fn cheap(&mut self, old: &[Pending<P>], is_continued: bool, next: Option<u64>) -> Vec<bool> {
        let mut wanted = vec![false; old.len()];
        let numbers = || old.iter().filter_map(|pending| pending.shown).map(|(number, _)| number);
        let (Some(from), Some(to)) = (numbers().min(), numbers().max()) else { return wanted };
        let head = old.first().filter(|_| !is_continued).and_then(|first| first.shown).map(|(number, _)| number);
        wanted[0] = std::mem::take(&mut self.next_stands_in) && head.is_some();
        let is_dense = head.is_some_and(|head| 2 * (next.unwrap_or(to + 1) - head) <= 3 * self.every);
        let half = if is_dense { self.every } else { self.every / 2 };
        let last = old.iter().rposition(|pending| !pending.unit.look.is_droppable);
        let backbone = used(&links(old), &(0..old.len()).map(|at| Some(at) == last).collect::<Vec<_>>());
        let mut asked = from.next_multiple_of(self.every);
        while asked < next.unwrap_or(to + 1) {
            let to_head = head.map_or(u64::MAX, |head| asked.abs_diff(head));
            let to_next = next.map_or(u64::MAX, |next| next - asked);
            if to_head <= half && to_head <= to_next {
                wanted[0] = true;
            } else if to_next <= half {
                self.next_stands_in = true;
            } else {
                let away = |at: &usize| old[*at].shown.map_or(u64::MAX, |(number, _)| number.abs_diff(asked));
                let is_near = |at: &usize| !old[*at].unit.look.is_droppable && away(at) <= self.every / 4;
                let near = (0..old.len()).filter(is_near).min_by_key(|at| (!backbone[*at], away(at)));
                if let Some(at) = near.or_else(|| (0..old.len()).find(|at| away(at) == 0)) {
                    wanted[at] = true;
                }
            }
            asked += self.every;
        }
        // Encoders put a key frame where a scene ends, however near the last one is.
        let is_near = |head: u64| self.last_wanted.is_some_and(|last| 4 * (head - last) < 3 * self.every);
        if is_dense && head.is_some_and(is_near) {
            wanted[0] = false;
        }
        let shown =
            wanted.iter().zip(old).filter(|(is_wanted, _)| **is_wanted).filter_map(|(_, pending)| pending.shown);
        self.last_wanted = shown.map(|(number, _)| number).max().or(self.last_wanted);
        wanted
    }

    fn planned(&self, pending: Pending<P>, is_wanted: bool) -> Planned<P> {
        // H.264 pictures that are predicted from rough ones stay close to what they would be: 35 dB at worst after 250 of them.
        let may_be_rough = self.sampling == Sampling::Fast && pending.unit.needs.is_some();
        let Pending { place, shown, unit: Unit { packet, is_lead, needs, .. }, .. } = pending;
        let needs = needs.map(|needs| needs.exact).unwrap_or_default();
        Planned { packet, shown, is_wanted, may_be_rough, is_lead, place, needs }
    }
}

fn links<P>(pending: &[Pending<P>]) -> Vec<Link<'_>> {
    pending
        .iter()
        .map(|Pending { place, unit, .. }| Link { place: *place, look: unit.look, needs: unit.needs.as_ref() })
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::clock::Told;
    use super::super::references::{Count, Kept};
    use super::*;

    fn planner(every: u64, sampling: Sampling) -> Planner<u64> {
        Planner::new(Selection::Every(every), sampling, 0.04, StreamClock::new(Told { fps: 25.0, ..Told::default() }))
    }

    /// Key, reference and droppable pictures by letter, in the order of decoding, with where each is shown.
    fn units(pictures: &[(char, i64)]) -> Vec<Unit<u64>> {
        let unit = |(packet, (kind, stamp)): (u64, &(char, i64))| {
            let start = match kind {
                'K' => Start::Closed,
                'O' => Start::Open,
                _ => Start::No,
            };
            let look =
                Look { start, is_droppable: *kind == 'b', carries_more: false, is_shown: true, needs_before: false };
            Unit { packet, bytes: 1, stamp: *stamp, told: Some(*stamp), look, is_lead: false, needs: None }
        };
        (0..).zip(pictures).map(unit).collect()
    }

    fn plan(every: u64, sampling: Sampling, units: Vec<Unit<u64>>) -> Vec<Part<u64>> {
        let mut planner = planner(every, sampling);
        let mut parts: Vec<_> = units.into_iter().filter_map(|unit| planner.push(unit)).collect();
        parts.extend(planner.finish());
        parts
    }

    /// Packets of each part, and those among them that are wanted.
    fn told(parts: &[Part<u64>]) -> Vec<(Vec<u64>, Vec<u64>)> {
        let packets = |part: &Part<u64>| part.packets.iter().map(|planned| planned.packet).collect();
        let wanted = |part: &Part<u64>| {
            part.packets.iter().filter(|planned| planned.is_wanted).map(|planned| planned.packet).collect()
        };
        parts.iter().map(|part| (packets(part), wanted(part))).collect()
    }

    #[test]
    fn a_spread_begins_each_part_of_the_whole() {
        let chosen = |count, of| -> Vec<u64> {
            (0..of + 10).filter(|number| Selection::Spread { count, of }.asks_for(*number)).collect()
        };
        assert_eq!(chosen(3, 9), [0, 3, 6]);
        assert_eq!(chosen(3, 11), [0, 3, 7]);
        assert_eq!(chosen(5, 4), [0, 1, 2, 3]);
        assert_eq!(chosen(3, 0), [] as [u64; 0]);
        for of in 15..200 {
            let chosen = chosen(15, of);
            assert_eq!(chosen, (0..15).map(|part| part * of / 15).collect::<Vec<_>>(), "of {of}");
        }
    }

    #[test]
    fn what_no_sample_needs_is_left_out() {
        // Shown as K b P b P | K b P: numbers 0 to 4 and 5 to 7.
        let pictures = [('K', 0), ('P', 2), ('b', 1), ('P', 4), ('b', 3), ('K', 5), ('P', 7), ('b', 6)];
        let parts = plan(3, Sampling::Exact, units(&pictures));
        // Number 3 is a droppable picture that needs the references around it; 6 is the last one.
        assert_eq!(told(&parts), [(vec![0, 1, 3, 4], vec![0, 4]), (vec![5, 6, 7], vec![7])]);
        let parts = plan(5, Sampling::Exact, units(&pictures));
        assert_eq!(told(&parts), [(vec![0], vec![0]), (vec![5], vec![5])]);
        let parts = plan(6, Sampling::Exact, units(&pictures));
        assert_eq!(told(&parts), [(vec![0], vec![0]), (vec![5, 6, 7], vec![7])]);
    }

    #[test]
    fn a_stretch_without_a_sample_is_not_decoded_at_all() {
        let pictures = [('K', 0), ('P', 1), ('K', 2), ('P', 3), ('K', 4), ('P', 5)];
        assert_eq!(told(&plan(4, Sampling::Exact, units(&pictures))), [(vec![0], vec![0]), (vec![4], vec![4])]);
    }

    #[test]
    fn a_picture_between_two_groups_keeps_them_together_only_where_it_is_wanted() {
        // Open groups: the droppable picture 3 is decoded after the key 4 and shown before it.
        let pictures = [('K', 0), ('P', 2), ('b', 1), ('O', 4), ('b', 3), ('P', 6), ('b', 5)];
        assert_eq!(told(&plan(3, Sampling::Exact, units(&pictures))), [(vec![0, 1, 3, 4, 5], vec![0, 4, 5])]);
        assert_eq!(told(&plan(4, Sampling::Exact, units(&pictures))), [(vec![0], vec![0]), (vec![3], vec![3])]);
    }

    #[test]
    fn fast_takes_nothing_but_starts_where_these_are_dense_enough() {
        // A key frame a second at 30 a second, and one of 20 asked for.
        let pictures: Vec<_> = (0..10)
            .flat_map(|group| (0..30).map(move |at| (if at == 0 { 'K' } else { 'P' }, 30 * group + at)))
            .collect();
        let parts = plan(20, Sampling::Fast, units(&pictures));
        let given: Vec<u64> = parts.iter().flat_map(|part| &part.packets).map(|planned| planned.packet).collect();
        assert_eq!(given, (0..10).map(|group| 30 * group).collect::<Vec<_>>());
        assert!(parts.iter().all(|part| part.packets[0].is_wanted));
        // Groups that are longer than one and a half intervals are looked into.
        let parts = plan(19, Sampling::Fast, units(&pictures));
        assert!(parts.iter().flat_map(|part| &part.packets).count() > 10);
    }

    #[test]
    fn fast_passes_over_key_frames_that_stand_close_behind_one_looked_at() {
        // A key frame every 30 pictures, or sooner where a scene ends; one of 20 asked for.
        let keys = [0, 30, 36, 43, 45, 75, 88, 90, 119];
        let pictures: Vec<_> = (0..140).map(|at| (if keys.contains(&at) { 'K' } else { 'P' }, at)).collect();
        let wanted = told(&plan(20, Sampling::Fast, units(&pictures))).into_iter().flat_map(|(_, wanted)| wanted);
        assert_eq!(wanted.collect::<Vec<_>>(), [0, 30, 45, 75, 90, 119]);
    }

    #[test]
    fn fast_takes_the_start_of_a_group_within_half_an_interval_and_references_elsewhere() {
        let group = |from: i64| {
            let rest = (1..15).flat_map(move |pair| [('P', from + 2 * pair), ('b', from + 2 * pair - 1)]);
            [('K', from)].into_iter().chain(rest).collect::<Vec<_>>()
        };
        let pictures: Vec<_> = [group(0), group(29), group(58)].concat();
        let parts = plan(20, Sampling::Fast, units(&pictures));
        let numbers: Vec<Vec<u64>> = parts
            .iter()
            .map(|part| part.packets.iter().filter(|p| p.is_wanted).filter_map(|p| p.shown.map(|(n, _)| n)).collect())
            .collect();
        // 20 is given by 29, 40 is further than half an interval from both and given by itself or a reference near.
        assert_eq!(numbers.len(), 3);
        assert_eq!((numbers[0].as_slice(), numbers[1][0], numbers[2][0]), ([0].as_slice(), 29, 58));
        assert!(parts[0].packets.len() == 1 && parts[0].packets[0].may_be_rough);
    }

    /// As `units`, each with what it needs: P pictures the K or P before them, by number; B pictures those around them. Four are
    /// held, and a B picture lets the B picture before it go.
    fn chained(pictures: &[(char, i64)]) -> Vec<Unit<u64>> {
        let mut units = units(pictures);
        let (mut held, mut chain, mut middle) = (Vec::<u64>::new(), Vec::new(), None);
        for (at, (kind, _)) in (0..).zip(pictures) {
            if *kind == 'K' {
                (held, chain, middle) = (Vec::new(), Vec::new(), None);
            }
            let count = if *kind == 'P' { 1 } else { 2 };
            let exact = chain.iter().rev().take(count).copied().collect();
            let count = Count { order: pictures[at as usize].1, orders: Some(16), number: 0, numbers: 16 };
            let is_by_number = matches!(kind, 'K' | 'P');
            let mut needs = Needs { exact, held: held.clone(), is_by_number, kept: None, count };
            if *kind != 'b' {
                let instead_of: Vec<u64> = if *kind == 'B' { middle.replace(at).into_iter().collect() } else { vec![] };
                held.retain(|place| !instead_of.contains(place));
                if instead_of.is_empty() && held.len() == 4 {
                    held.remove(0);
                }
                held.push(at);
                needs.kept = Some(Kept { instead_of, room: 4 });
            }
            if matches!(kind, 'K' | 'P') {
                chain.push(at);
            }
            units[at as usize].needs = Some(needs);
        }
        units
    }

    #[test]
    fn references_that_nothing_wanted_needs_are_left_out() {
        // Shown as K b B b P b B b P b B b P.
        let group = |from: i64| [('P', from + 4), ('B', from + 2), ('b', from + 1), ('b', from + 3)];
        let pictures = [&[('K', 0)][..], &group(0), &group(4), &group(8)].concat();
        assert_eq!(told(&plan(12, Sampling::Exact, chained(&pictures))), [(vec![0, 1, 5, 9], vec![0, 9])]);
        // 6 is a B picture: what is held with it has to be there, as the one of the group before.
        assert_eq!(told(&plan(6, Sampling::Exact, chained(&pictures))), [(vec![0, 1, 2, 5, 6, 9], vec![0, 6, 9])]);
        // Without knowing more, all references are needed.
        assert_eq!(told(&plan(12, Sampling::Exact, units(&pictures))), [(vec![0, 1, 2, 5, 6, 9], vec![0, 9])]);
        // In place of 10, a B picture, fast takes one of the chain.
        let longer = [&pictures[..], &group(12), &group(16)].concat();
        let parts = plan(10, Sampling::Fast, chained(&longer));
        assert_eq!(told(&parts), [(vec![0, 1, 5, 9, 13, 17], vec![0, 5, 17])]);
        assert!(parts.iter().flat_map(|part| &part.packets).all(|planned| planned.may_be_rough));
        // What comes along stays.
        let mut units = chained(&pictures);
        units[2].look.carries_more = true;
        assert_eq!(told(&plan(12, Sampling::Exact, units)), [(vec![0, 1, 2, 5, 9], vec![0, 9])]);
    }

    #[test]
    fn nothing_is_left_out_over_which_the_decoder_would_lose_count() {
        // Every fourth picture needs nothing before it, and a decoder tells places 8 apart at most.
        let pictures: Vec<_> = (0..30).map(|at| (if at == 0 { 'K' } else { 'P' }, at)).collect();
        let mut units = chained(&pictures);
        for at in (0..30).step_by(4) {
            units[at].needs.as_mut().unwrap().exact.clear();
        }
        assert_eq!(
            told(&plan(4, Sampling::Exact, units)),
            [((0..29).step_by(4).collect(), (0..29).step_by(4).collect())]
        );
        let mut units = chained(&pictures);
        for at in (0..30).step_by(4) {
            units[at].needs.as_mut().unwrap().exact.clear();
        }
        let all = plan(12, Sampling::Exact, units);
        let given = &told(&all)[0].0;
        assert!(given.windows(2).all(|pair| pair[1] - pair[0] < 8), "{given:?}");
        assert!(given.len() < 30);
    }

    prop_compose! {
        /// Groups of mini-groups: a reference, then those shown before it, with one reference in the middle.
        fn video()(groups in prop::collection::vec(prop::collection::vec(0_i64..6, 0..12), 1..8)) -> Vec<(char, i64)> {
            let (mut pictures, mut next) = (Vec::new(), 0);
            for group in groups {
                pictures.push(('K', next));
                next += 1;
                for between in group {
                    pictures.push(('P', next + between));
                    pictures.extend((0..between).map(|at| (if at == between / 2 { 'B' } else { 'b' }, next + at)));
                    next += between + 1;
                }
            }
            pictures
        }
    }

    proptest! {
        #[test]
        fn every_nth_picture_is_wanted_and_has_all_references_before_it(pictures in video(), every in 1_u64..40) {
            let parts = plan(every, Sampling::Exact, units(&pictures));
            let all = || parts.iter().flat_map(|part| &part.packets);
            let mut wanted: Vec<u64> = all().filter(|p| p.is_wanted).filter_map(|p| p.shown).map(|(n, _)| n).collect();
            wanted.sort_unstable();
            let count = pictures.len() as u64;
            prop_assert_eq!(wanted, (0..count).step_by(every as usize).collect::<Vec<_>>());
            for planned in all() {
                // Stamps count pictures here, so they are the numbers.
                let stamp = pictures[planned.packet as usize].1 as u64;
                prop_assert_eq!(planned.shown.map(|(number, _)| number), Some(stamp));
            }
            for part in &parts {
                let first = part.packets[0].packet;
                prop_assert_eq!(pictures[first as usize].0, 'K');
                let last = part.packets[part.packets.len() - 1].packet;
                let given: Vec<u64> = part.packets.iter().map(|planned| planned.packet).collect();
                let references = (first..last).filter(|at| pictures[*at as usize].0 != 'b');
                prop_assert!(references.into_iter().all(|at| given.contains(&at)));
            }
        }

        #[test]
        fn nonsense_is_planned_without_holding_on_to_it(stamps in prop::collection::vec((0_usize..5, any::<i64>()), 1..400)) {
            let pictures: Vec<_> = stamps.into_iter().map(|(kind, stamp)| (['K', 'O', 'P', 'b', 'b'][kind], stamp)).collect();
            for sampling in [Sampling::Exact, Sampling::Fast] {
                let numbers: Vec<u64> = plan(7, sampling, units(&pictures))
                    .iter()
                    .flat_map(|part| &part.packets)
                    .filter_map(|planned| planned.shown)
                    .map(|(number, _)| number)
                    .collect();
                let mut once = numbers.clone();
                once.sort_unstable();
                once.dedup();
                prop_assert_eq!(once.len(), numbers.len());
            }
        }
    }
}
