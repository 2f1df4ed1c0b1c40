//! Draws boxes and labels into pictures.

use std::collections::HashMap;

use opencv::core::{Mat, Point, Rect, Scalar, Size};
use opencv::imgproc::{FILLED, FONT_HERSHEY_SIMPLEX, LINE_8, LINE_AA, get_text_size, put_text, rectangle};

use super::colours::{self, Colours};
use super::labels::{Area, Labelled, place};
use crate::analysis::{BBox, LabelledBox};

/// Height of capital letters, as a share of the shorter side of the picture.
const LETTERS: f64 = 1.0 / 42.0;
/// Height of capital letters in pixels below which they are not readable.
const LEAST_LETTERS: f64 = 9.0;
/// Height of capital letters of the font at scale 1, in pixels.
const FONT_LETTERS: f64 = 21.0;
/// Width of the lines of boxes, as a share of the shorter side.
const LINE: f64 = 1.0 / 240.0;
/// Width of the lines of letters, as a share of their height.
const STROKE: f64 = 0.12;
/// Space around the text of a label, and between its lines, as a share of the height of capital letters.
const PADDING: f64 = 0.6;

/// Lines and letters for the pictures of one video.
pub struct Pen {
    width: f64,
    height: f64,
    /// Width of the lines of boxes.
    line: i32,
    /// Height of capital letters.
    letters: f64,
    /// Where the label of each person was in the last picture, see [`place`].
    places: HashMap<u32, usize>,
}

impl Pen {
    /// For pictures of this size.
    pub fn new((width, height): (u32, u32)) -> Self {
        let (width, height) = (f64::from(width), f64::from(height));
        let side = width.min(height);
        Self {
            width,
            height,
            line: pixels(side * LINE).max(2),
            letters: (side * LETTERS).max(LEAST_LETTERS),
            places: HashMap::new(),
        }
    }

    /// Draws the boxes and their labels.
    pub fn draw(&mut self, picture: &mut Mat, shown: &[LabelledBox]) -> Result<(), opencv::Error> {
        for one in shown {
            self.draw_box(picture, &one.bbox, colours::of_person(one.person))?;
        }
        let labels = shown.iter().map(|one| self.label(one)).collect::<Result<Vec<Label>, _>>()?;
        let labelled: Vec<Labelled> = shown
            .iter()
            .zip(&labels)
            .map(|(one, label)| Labelled {
                face: area(&one.bbox),
                width: label.width,
                height: label.height,
                before: self.places.get(&one.person).copied(),
            })
            .collect();
        // Beyond the line of the box and its margin.
        let gap = f64::from(self.line);
        let spots = place(&labelled, (self.width, self.height), gap);
        for ((one, label), (spot, place)) in shown.iter().zip(&labels).zip(spots) {
            self.places.insert(one.person, place);
            label.draw(picture, &spot, colours::of_person(one.person))?;
        }
        Ok(())
    }

    /// Draws a box with a dark margin on both sides of its line, so that it can be seen on any ground.
    fn draw_box(&self, picture: &mut Mat, bbox: &BBox, colours: Colours) -> Result<(), opencv::Error> {
        let area = area(bbox);
        let corner = (pixels(area.x), pixels(area.y));
        let rect = Rect::new(corner.0, corner.1, pixels(area.width).max(1), pixels(area.height).max(1));
        rectangle(picture, rect, Scalar::all(0.0), self.line + 2, LINE_8, 0)?;
        rectangle(picture, rect, scalar(colours.ground), self.line, LINE_8, 0)
    }

    /// Lays out the label of a box.
    fn label(&self, shown: &LabelledBox) -> Result<Label, opencv::Error> {
        let person = format!("Person {}: {}", shown.person, shown.emotion.label());
        let eyes = shown.eye_contact.map(|met| if met { "eye contact" } else { "no eye contact" });
        let lines: Vec<String> = std::iter::once(person).chain(eyes.map(ToOwned::to_owned)).collect();
        let measured = |letters: f64| {
            let widths = lines.iter().map(|line| Ok(f64::from(text_size(line, letters)?.width)));
            widths.collect::<Result<Vec<f64>, opencv::Error>>()
        };
        // A label that is wider than the picture is made smaller.
        let width = |letters: f64| {
            measured(letters).map(|widths| widths.into_iter().fold(0.0, f64::max) + 2.0 * PADDING * letters)
        };
        let mut letters = self.letters;
        while width(letters)? > self.width && letters > 3.0 {
            letters *= 0.9;
        }
        #[expect(clippy::cast_precision_loss, reason = "two lines")]
        let count = lines.len() as f64;
        let height = letters * (count + PADDING * (count + 1.0));
        Ok(Label { width: width(letters)?, height, letters, lines })
    }
}

/// The text of a label and its size.
struct Label {
    lines: Vec<String>,
    letters: f64,
    width: f64,
    height: f64,
}

impl Label {
    fn draw(&self, picture: &mut Mat, spot: &Area, colours: Colours) -> Result<(), opencv::Error> {
        let Self { lines, letters, .. } = self;
        let ground = Rect::new(pixels(spot.x), pixels(spot.y), pixels(spot.width), pixels(spot.height));
        rectangle(picture, ground, scalar(colours.ground), FILLED, LINE_8, 0)?;
        let mut base = spot.y + letters * (1.0 + PADDING);
        for line in lines {
            let at = Point::new(pixels(spot.x + PADDING * letters), pixels(base));
            let (scale, stroke) = font(*letters);
            put_text(picture, line, at, FONT_HERSHEY_SIMPLEX, scale, scalar(colours.ink), stroke, LINE_AA, false)?;
            base += letters * (1.0 + PADDING);
        }
        Ok(())
    }
}

/// The scale of the font, and the width of its lines, for capital letters of this height.
fn font(letters: f64) -> (f64, i32) {
    (letters / FONT_LETTERS, pixels(letters * STROKE).max(1))
}

fn text_size(text: &str, letters: f64) -> Result<Size, opencv::Error> {
    let (scale, stroke) = font(letters);
    get_text_size(text, FONT_HERSHEY_SIMPLEX, scale, stroke, &mut 0)
}

fn area(bbox: &BBox) -> Area {
    let [x, y, width, height] = [bbox.x, bbox.y, bbox.width, bbox.height].map(f64::from);
    Area { x, y, width, height }
}

fn scalar(colour: [u8; 3]) -> Scalar {
    let [blue, green, red] = colour.map(f64::from);
    Scalar::new(blue, green, red, 0.0)
}

#[expect(clippy::cast_possible_truncation, reason = "positions in a picture; others are clamped")]
fn pixels(length: f64) -> i32 {
    length.round().clamp(-1e6, 1e6) as i32
}
