//! Draws the seven percentages as bars.

use std::fmt::Write;

use super::{at, escape, open};

/// One bar.
pub struct Bar<'a> {
    pub label: &'a str,
    pub value: &'a str,
    /// 0 to 100.
    pub percent: f64,
    pub colour: &'a str,
}

/// Draws the bars from top to bottom, each with its label and value. `label` is the text alternative.
pub fn bars(bars: &[Bar<'_>], label: &str) -> String {
    const WIDTH: f64 = 400.0;
    const FONT: f64 = 14.0;
    const ROW: f64 = 27.0;
    const LEFT: f64 = 92.0;
    const RIGHT: f64 = 56.0;
    #[expect(clippy::cast_precision_loss, reason = "seven bars")]
    let height = bars.len() as f64 * ROW;
    let longest = WIDTH - LEFT - RIGHT;
    let mut svg = open(WIDTH, height, FONT, label);
    let mut y = 0.0;
    for bar in bars {
        let width = (bar.percent.clamp(0.0, 100.0) / 100.0 * longest).max(1.5);
        let baseline = at(y + ROW / 2.0 + FONT * 0.35);
        let (x, top, height) = (at(LEFT), at(y + 5.0), at(ROW - 10.0));
        let (label, value, colour) = (escape(bar.label), escape(bar.value), escape(bar.colour));
        let mut rect = |width: f64, fill: &str| {
            let width = at(width);
            let _ = write!(svg, r#"<rect x="{x}" y="{top}" width="{width}" height="{height}" rx="3" {fill}/>"#);
        };
        rect(longest, r#"fill-opacity=".07""#);
        rect(width, &format!(r#"fill="{colour}""#));
        let label_x = at(LEFT - 10.0);
        let _ = write!(svg, r#"<text x="{label_x}" y="{baseline}" text-anchor="end">{label}</text>"#);
        let _ = write!(svg, r#"<text x="{WIDTH}" y="{baseline}" text-anchor="end">{value}</text>"#);
        y += ROW;
    }
    svg.push_str("</svg>");
    svg
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_escaped() {
        let bar = Bar { label: "<script>", value: "\"5%\"", percent: 5.0, colour: "#000000" };
        let svg = bars(&[bar], "a & b");
        assert!(!svg.contains("<script>"));
        assert!(svg.contains("&lt;script&gt;") && svg.contains("&quot;5%&quot;") && svg.contains("a &amp; b"));
    }

    #[test]
    fn the_length_of_a_bar_is_proportional_to_its_percentage() {
        let bar = |percent| bars(&[Bar { label: "", value: "", percent, colour: "#123456" }], "");
        assert!(bar(100.0).contains(r##"width="252" height="17" rx="3" fill="#123456""##));
        assert!(bar(50.0).contains(r##"width="126" height="17" rx="3" fill="#123456""##));
        assert!(bar(900.0).contains(r##"width="252" height="17" rx="3" fill="#123456""##));
    }
}
