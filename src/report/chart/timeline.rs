//! Draws one person's emotions over time: the seven probabilities as stacked areas, and below them the valence and the
//! spans of speech. Times in which the face was not seen are hatched.

use std::fmt::Write;

use crate::analysis::{Findings, Span};
use crate::report::colour;
use crate::report::words::Words;

use super::bins::{Bin, stretches};
use super::{STACK, Size, at, escape, open};

/// The positions of the parts of the drawing.
struct Layout {
    size: Size,
    left: f64,
    right: f64,
    top: f64,
    bottom: f64,
    strip_top: f64,
    strip_bottom: f64,
    /// Top of the lane of speech, if there is one.
    speech_top: Option<f64>,
    height: f64,
    duration_s: f64,
}

/// Height of the lane of speech, in font sizes.
const SPEECH: f64 = 0.9;

impl Layout {
    /// Returns the x coordinate of a time.
    fn x(&self, time_s: f64) -> f64 {
        self.left + (time_s / self.duration_s).clamp(0.0, 1.0) * (self.right - self.left)
    }

    /// Returns the y coordinate of a share, 0 to 1, in the stacked areas.
    fn y(&self, share: f64) -> f64 {
        self.bottom - share.clamp(0.0, 1.0) * (self.bottom - self.top)
    }

    /// Returns the y coordinate of a valence, -1 to 1, in its strip.
    fn strip_y(&self, valence: f64) -> f64 {
        let middle = f64::midpoint(self.strip_top, self.strip_bottom);
        middle - valence.clamp(-1.0, 1.0) * (self.strip_bottom - self.strip_top) / 2.0
    }
}

/// Draws the chart of one person. `label` is the text alternative.
pub fn timeline(words: Words, findings: &Findings, face: u32, size: Size, label: &str) -> String {
    let last_s = findings.timeline.rows.last().map_or(0.0, |row| row.time_s);
    let duration_s = findings.analysis.video.duration_s.max(last_s).max(0.001);
    let stretches = stretches(&findings.timeline, face, duration_s, size.steps);

    let (legend, legend_height) = legend(words, size);
    let left = 3.9 * size.font;
    let top = legend_height + 0.8 * size.font;
    let bottom = top + size.plot;
    let strip_top = bottom + 3.4 * size.font;
    let strip_bottom = strip_top + 3.4 * size.font;
    let right = size.width - 0.4 * size.font;
    // With several people it is unknown who speaks.
    let is_alone = findings.analysis.faces.len() == 1;
    let heard = findings.analysis.speech.as_ref().filter(|speech| is_alone && !speech.spans.is_empty());
    let speech_top = heard.map(|_| strip_bottom + 1.9 * size.font);
    let height = speech_top.map_or(strip_bottom, |top| top + SPEECH * size.font) + 0.6 * size.font;
    let layout = Layout { size, left, right, top, bottom, strip_top, strip_bottom, speech_top, height, duration_s };

    let mut svg = open(size.width, layout.height, size.font, label);
    svg.push_str(&legend);
    background(&mut svg, &layout, face);
    for stretch in &stretches {
        stack(&mut svg, &layout, stretch);
        valence(&mut svg, &layout, stretch);
    }
    axes(&mut svg, words, &layout);
    if let Some(heard) = heard {
        speech(&mut svg, &layout, &heard.spans, &words.say("spoken"));
    }
    svg.push_str("</svg>");
    svg
}

/// Draws the legend in as many rows as needed. Returns it with its height.
fn legend(words: Words, size: Size) -> (String, f64) {
    let square = 0.85 * size.font;
    let mut svg = String::new();
    let (mut x, mut y) = (0.0, 0.0);
    let items = STACK.iter().map(|&emotion| (colour::of_emotion(emotion), words.label(emotion)));
    for (fill, text) in items.chain([("hatch", words.say("unseen"))]) {
        #[expect(clippy::cast_precision_loss, reason = "a short word")]
        let width = square + 0.4 * size.font + 0.56 * size.font * text.chars().count() as f64 + 0.9 * size.font;
        if x > 0.0 && x + width - 0.9 * size.font > size.width {
            x = 0.0;
            y += 1.55 * size.font;
        }
        let (sx, sy) = (at(x), at(y + 0.15 * size.font));
        let side = at(square);
        if fill == "hatch" {
            // Draws single lines, since the pattern of the chart would be cut off in so small a square.
            let (near, far) = (at(x + square / 2.0), at(x + square));
            let (upper, middle, lower) =
                (sy.clone(), at(y + 0.15 * size.font + square / 2.0), at(y + 0.15 * size.font + square));
            let lines =
                format!("M{sx},{middle}L{near},{upper}M{sx},{lower}L{far},{upper}M{near},{lower}L{far},{middle}");
            let _ =
                write!(svg, r#"<rect x="{sx}" y="{sy}" width="{side}" height="{side}" rx="2" fill-opacity=".07"/>"#);
            let _ = write!(svg, r#"<path d="{lines}" stroke="currentColor" stroke-opacity=".35"/>"#);
        } else {
            let _ = write!(svg, r#"<rect x="{sx}" y="{sy}" width="{side}" height="{side}" rx="2" fill="{fill}"/>"#);
        }
        let _ = write!(
            svg,
            r#"<text x="{}" y="{}">{}</text>"#,
            at(x + square + 0.4 * size.font),
            at(y + 0.92 * size.font),
            escape(&text)
        );
        x += width;
    }
    (svg, y + 1.3 * size.font)
}

/// Draws the hatched background, which stays visible where the face was not seen.
fn background(svg: &mut String, layout: &Layout, face: u32) {
    let (x, width) = (at(layout.left), at(layout.right - layout.left));
    let (y, height) = (at(layout.top), at(layout.bottom - layout.top));
    // The id must be unique: a page has charts of several people, each in two sizes.
    let id = format!("gap-{face}-{}", at(layout.size.width));
    let lines = r#"<path d="M-1,1L1,-1M0,7L7,0M6,8L8,6" stroke="currentColor" stroke-opacity=".2"/>"#;
    let pattern = format!(r#"<pattern id="{id}" width="7" height="7" patternUnits="userSpaceOnUse">{lines}</pattern>"#);
    let area = format!(r#"x="{x}" y="{y}" width="{width}" height="{height}""#);
    let _ = write!(svg, r##"{pattern}<rect {area} fill-opacity=".03"/><rect {area} fill="url(#{id})"/>"##);
}

/// Draws the seven shares of a stretch. Each area reaches down to the axis and is partly covered by the next one, so
/// that there are no gaps between them.
fn stack(svg: &mut String, layout: &Layout, stretch: &[Bin]) {
    let (Some(first), Some(last)) = (stretch.first(), stretch.last()) else { return };
    let (from, to) = (layout.x(first.from_s), layout.x(last.to_s).max(layout.x(first.from_s) + 1.0));
    for (depth, &emotion) in STACK.iter().enumerate().rev() {
        let height = |bin: &Bin| -> f64 { STACK[..=depth].iter().map(|e| bin.emotions[e.index()]).sum() };
        let mut path = format!("M{},{}", at(from), at(layout.y(height(first))));
        for bin in stretch {
            let _ = write!(path, "L{},{}", at(layout.x(bin.at_s)), at(layout.y(height(bin))));
        }
        let (end, floor) = (at(to), at(layout.bottom));
        let _ = write!(path, "L{end},{}L{end},{floor}L{},{floor}Z", at(layout.y(height(last))), at(from));
        let _ = write!(svg, r#"<path d="{path}" fill="{}"/>"#, colour::of_emotion(emotion));
    }
}

/// Draws the valence of a stretch as a line.
fn valence(svg: &mut String, layout: &Layout, stretch: &[Bin]) {
    let (Some(first), Some(last)) = (stretch.first(), stretch.last()) else { return };
    let mut path = format!("M{},{}", at(layout.x(first.from_s)), at(layout.strip_y(first.valence)));
    for bin in stretch {
        let _ = write!(path, "L{},{}", at(layout.x(bin.at_s)), at(layout.strip_y(bin.valence)));
    }
    let end = layout.x(last.to_s).max(layout.x(first.from_s) + 1.0);
    let _ = write!(path, "L{},{}", at(end), at(layout.strip_y(last.valence)));
    let _ = write!(
        svg,
        r#"<path d="{path}" fill="none" stroke="currentColor" stroke-width="{}" stroke-linejoin="round"/>"#,
        at(layout.size.font / 7.0)
    );
}

/// Writes the name of a strip above its upper edge.
fn caption(svg: &mut String, layout: &Layout, top: f64, text: &str) {
    let font = layout.size.font;
    let (x, y, size, text) = (at(layout.left), at(top - 0.5 * font), at(0.9 * font), escape(text));
    let _ = write!(svg, r#"<text x="{x}" y="{y}" fill-opacity=".75" font-size="{size}">{text}</text>"#);
}

/// Draws the spans of speech.
fn speech(svg: &mut String, layout: &Layout, spans: &[Span], label: &str) {
    let Some(top) = layout.speech_top else { return };
    let (x, width, height) = (at(layout.left), at(layout.right - layout.left), at(SPEECH * layout.size.font));
    caption(svg, layout, top, label);
    let y = at(top);
    let _ = write!(svg, r#"<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="2" fill-opacity=".07"/>"#);
    let mut path = String::new();
    for span in spans {
        let (from, to) = (layout.x(span.start_s), layout.x(span.end_s));
        let _ = write!(path, "M{},{}H{}v{height}H{}Z", at(from), at(top), at(to.max(from + 1.0)), at(from));
    }
    let _ = write!(svg, r#"<path d="{path}" fill-opacity=".6"/>"#);
}

/// Draws axes, ticks and labels.
fn axes(svg: &mut String, words: Words, layout: &Layout) {
    let font = layout.size.font;
    let (left, right) = (at(layout.left), at(layout.right));
    for share in [0.0, 0.5, 1.0] {
        let text = words.share(share);
        let y = layout.y(share);
        let (line_y, x, baseline) = (at(y), at(layout.left - 0.5 * font), at(y + 0.35 * font));
        let _ = write!(svg, r#"<path d="M{left},{line_y}H{right}" stroke="currentColor" stroke-opacity=".25"/>"#);
        let _ = write!(svg, r#"<text x="{x}" y="{baseline}" text-anchor="end">{text}</text>"#);
    }
    // Each tick needs the space of one and a half labels, because the last label is moved inwards.
    #[expect(clippy::cast_precision_loss, reason = "a short label")]
    let label = words.moment(layout.duration_s, layout.duration_s).len() as f64 * 0.56 * font;
    let ticks = ticks(layout.duration_s, (layout.right - layout.left) / (1.5 * label + font));
    let mut marks = String::new();
    for &tick in &ticks.at_s {
        let x = layout.x(tick);
        let _ = write!(marks, "M{x},{}v{}", at(layout.bottom), at(0.4 * font), x = at(x));
        // The last label stays inside the drawing.
        let (anchor, x) = if x + label / 2.0 > layout.size.width { ("end", layout.size.width) } else { ("middle", x) };
        let _ = write!(
            svg,
            r#"<text x="{}" y="{}" text-anchor="{anchor}">{}</text>"#,
            at(x),
            at(layout.bottom + 1.5 * font),
            escape(&words.tick(tick, ticks.step_s, layout.duration_s))
        );
    }
    let _ = write!(svg, r#"<path d="{marks}" stroke="currentColor" stroke-opacity=".5"/>"#);

    let style = r#"stroke="currentColor" stroke-opacity=".35" stroke-dasharray="3 3""#;
    let _ = write!(svg, r#"<path d="M{left},{}H{right}" {style}/>"#, at(layout.strip_y(0.0)));
    caption(svg, layout, layout.strip_top, &words.say("pleasant"));
    for (valence, sign) in [(0.8, "+"), (-0.8, "−")] {
        let y = at(layout.strip_y(valence) + 0.35 * font);
        let _ = write!(svg, r#"<text x="{}" y="{y}" text-anchor="end">{sign}</text>"#, at(layout.left - 0.5 * font));
    }
}

struct Ticks {
    step_s: f64,
    at_s: Vec<f64>,
}

/// Returns round times from 0 to the end, with at most `most` steps.
fn ticks(duration_s: f64, most: f64) -> Ticks {
    const STEPS: [f64; 19] = [
        0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 900.0, 1800.0, 3600.0, 7200.0,
        14400.0,
    ];
    let fits = |step: &f64| duration_s / step <= most.max(1.0);
    // Uses whole hours for longer videos.
    let step_s = STEPS.into_iter().find(fits).unwrap_or_else(|| (duration_s / most.max(1.0) / 3600.0).ceil() * 3600.0);
    let at_s = (0_u32..).map(|n| f64::from(n) * step_s).take_while(|&time| time <= duration_s + 1e-9).collect();
    Ticks { step_s, at_s }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::Language;
    use crate::report::sample;

    const EN: Words = Words(Language::EN);

    #[test]
    fn ticks_are_round_and_few() {
        for (duration, most, step, count) in [
            (0.3, 8.0, 0.05, 7),
            (19.7, 8.0, 5.0, 4),
            (92.0, 8.0, 15.0, 7),
            (3600.0, 8.0, 600.0, 7),
            (90_000.0, 6.0, 18_000.0, 6),
        ] {
            let ticks = ticks(duration, most);
            assert!((ticks.step_s - step).abs() < 1e-9, "{duration}: {}", ticks.step_s);
            assert_eq!(ticks.at_s.len(), count, "{duration}");
        }
    }

    #[test]
    fn a_chart_of_90_minutes_stays_small() {
        let svg = timeline(EN, &sample::long(), 1, Size::WIDE, "long");
        assert!(svg.len() < 60_000, "{} bytes", svg.len());
    }

    #[test]
    fn every_emotion_of_every_stretch_is_drawn() {
        let findings = sample::gap();
        let svg = timeline(EN, &findings, 1, Size::WIDE, "gap");
        for emotion in STACK {
            let areas = svg.matches(&format!(r#"Z" fill="{}""#, colour::of_emotion(emotion))).count();
            assert_eq!(areas, 2, "{emotion}");
        }
    }

    #[test]
    fn the_lane_of_speech_is_drawn_if_there_is_speech() {
        let mut findings = sample::one();
        let with = timeline(EN, &findings, 1, Size::WIDE, "");
        let lane = with.split("fill-opacity=\".07\"/><path d=\"").last().unwrap().split('"').next().unwrap();
        assert_eq!(lane.matches('Z').count(), 3, "{lane}");
        assert!(with.contains(&EN.say("spoken")));
        findings.analysis.speech = None;
        let without = timeline(EN, &findings, 1, Size::WIDE, "");
        assert!(!without.contains(&EN.say("spoken")) && without.len() < with.len());
    }

    #[test]
    fn the_label_is_escaped() {
        let svg = timeline(EN, &sample::gap(), 1, Size::NARROW, "\"><script>");
        assert!(!svg.contains("<script>"));
    }

    #[test]
    fn a_face_without_samples_and_a_video_without_length_can_be_drawn() {
        let mut findings = sample::nobody();
        findings.analysis.video.duration_s = 0.0;
        assert!(timeline(EN, &findings, 1, Size::NARROW, "").ends_with("</svg>"));
    }
}
