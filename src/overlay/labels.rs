//! Places labels so that none covers another, and all lie inside the picture. The page does the same for its player
//! (`assets/labels.js`).

/// A rectangle in pixels.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Area {
    pub x: f64,
    pub y: f64,
    pub width: f64,
    pub height: f64,
}

impl Area {
    /// The area in square pixels that two rectangles share.
    fn overlap(&self, other: &Self) -> f64 {
        let width = (self.x + self.width).min(other.x + other.width) - self.x.max(other.x);
        let height = (self.y + self.height).min(other.y + other.height) - self.y.max(other.y);
        width.max(0.0) * height.max(0.0)
    }
}

/// A box, and the size of its label.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Labelled {
    pub face: Area,
    pub width: f64,
    pub height: f64,
    /// Where the label was in the picture before, relative to its box.
    pub before: Option<usize>,
}

/// Returns the place of each label in a picture of this size, and where that is relative to its box. A label stays where
/// it was in the picture before, if that is as good. Otherwise it prefers the upper edge of its box, then the other
/// edges, then the nearest free row of the picture. `gap` is the distance to the box.
pub fn place(labelled: &[Labelled], (frame_width, frame_height): (f64, f64), gap: f64) -> Vec<(Area, usize)> {
    let mut placed: Vec<(Area, usize)> = Vec::with_capacity(labelled.len());
    for (n, Labelled { face, width, height, before }) in labelled.iter().enumerate() {
        let (width, height) = (width.min(frame_width), height.min(frame_height));
        let (left, right) = (face.x, face.x + face.width - width);
        let (above, below) = (face.y - height - gap, face.y + face.height + gap);
        let edges = [
            (left, above),
            (right, above),
            (left, below),
            (right, below),
            (left, face.y + gap),
            (left, face.y + face.height - height - gap),
        ];
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "rows of labels in a picture")]
        let rows = (frame_height / (height + gap)).max(0.0) as u32;
        let mut rows: Vec<(f64, f64)> = (0..rows).map(|row| (left, f64::from(row) * (height + gap))).collect();
        rows.sort_by(|a, b| (a.1 - above).abs().total_cmp(&(b.1 - above).abs()));
        // Covering another label costs more than covering another face, which costs more than a less wanted place.
        let cost = |spot: &Area, at: usize| {
            let labels: f64 = placed.iter().map(|(other, _)| spot.overlap(other)).sum();
            let others = labelled.iter().enumerate().filter(|(other, _)| *other != n);
            let faces: f64 = others.map(|(_, other)| spot.overlap(&other.face)).sum();
            #[expect(clippy::cast_precision_loss, reason = "a few places")]
            let place = if Some(at) == *before { 0.0 } else { (at + 1) as f64 * 0.01 * height * height };
            1000.0 * labels + faces + place
        };
        let spots = edges.into_iter().chain(rows).map(|(x, y)| Area {
            x: x.min(frame_width - width).max(0.0),
            y: y.min(frame_height - height).max(0.0),
            width,
            height,
        });
        let best = spots.enumerate().min_by(|(a, one), (b, other)| cost(one, *a).total_cmp(&cost(other, *b)));
        placed.extend(best.map(|(at, spot)| (spot, at)));
    }
    placed
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const FRAME: (f64, f64) = (640.0, 360.0);

    fn face(x: f64, y: f64, side: f64) -> Labelled {
        Labelled { face: Area { x, y, width: side, height: side }, width: 100.0, height: 30.0, before: None }
    }

    #[test]
    fn a_label_is_above_its_box_or_at_another_edge_if_there_is_no_room() {
        let spot = |labelled| {
            let Area { x, y, .. } = place(&[labelled], FRAME, 2.0)[0].0;
            (x, y)
        };
        assert_eq!(spot(face(200.0, 100.0, 80.0)), (200.0, 68.0));
        assert_eq!(spot(face(600.0, 100.0, 40.0)), (540.0, 68.0), "at the right edge of the picture");
        // Without room above, the picture's edge is nearest, which covers the box and no one else.
        assert_eq!(spot(face(200.0, 10.0, 80.0)), (200.0, 0.0));
    }

    #[test]
    fn labels_of_neighbours_do_not_cover_each_other() {
        let faces = [face(200.0, 100.0, 40.0), face(250.0, 100.0, 40.0), face(300.0, 102.0, 40.0)];
        let spots = place(&faces, FRAME, 2.0);
        for (n, (one, _)) in spots.iter().enumerate() {
            assert!(spots[..n].iter().all(|(other, _)| one.overlap(other) == 0.0), "{spots:?}");
        }
    }

    #[test]
    fn a_label_stays_where_it_was_until_it_covers_something() {
        let below = Labelled { before: Some(2), ..face(200.0, 100.0, 80.0) };
        let spot = |labelled: &[Labelled]| place(labelled, FRAME, 2.0)[0].1;
        assert_eq!(spot(&[below]), 2);
        assert_eq!(spot(&[below, face(190.0, 185.0, 80.0)]), 0, "above, because another face is below");
    }

    proptest! {
        #[test]
        fn every_label_lies_inside_the_picture(
            faces in prop::collection::vec((-100.0..800.0_f64, -100.0..500.0_f64, 1.0..900.0_f64), 0..12),
            frame in (1.0..700.0_f64, 1.0..400.0_f64),
        ) {
            let faces: Vec<Labelled> = faces.into_iter().map(|(x, y, side)| face(x, y, side)).collect();
            let spots = place(&faces, frame, 3.0);
            prop_assert_eq!(spots.len(), faces.len());
            for (spot, _) in spots {
                prop_assert!(spot.x >= 0.0 && spot.x + spot.width <= frame.0 + 1e-9);
                prop_assert!(spot.y >= 0.0 && spot.y + spot.height <= frame.1 + 1e-9);
            }
        }
    }
}
