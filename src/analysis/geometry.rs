//! Positions of faces, in pixels of the upright frame with square pixels. The origin is top left, x runs right and y
//! down.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Parts of a face that something covers: a bar, sunglasses, a mask, a hand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Covered {
    /// Whether both eyes are covered. If one eye is bare, its gaze counts for both.
    pub eyes: bool,
    pub mouth: bool,
}

impl Covered {
    /// Whether a part is covered, so that the expression cannot be read well.
    pub const fn any(self) -> bool {
        self.eyes || self.mouth
    }
}

/// A point in pixels of the frame.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Point {
    pub x: f32,
    pub y: f32,
}

/// An upright rectangle in pixels of the frame.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize, ToSchema)]
pub struct BBox {
    pub x: f32,
    pub y: f32,
    pub width: f32,
    pub height: f32,
}

impl BBox {
    /// Returns the area in square pixels. It is 0 for a box with a negative side.
    pub fn area(&self) -> f32 {
        self.width.max(0.0) * self.height.max(0.0)
    }

    /// Returns the centre of the box.
    pub fn centre(&self) -> Point {
        Point { x: self.x + self.width / 2.0, y: self.y + self.height / 2.0 }
    }

    /// Returns the intersection over union, 0 to 1.
    pub fn iou(&self, other: &Self) -> f32 {
        let width = (self.x + self.width).min(other.x + other.width) - self.x.max(other.x);
        let height = (self.y + self.height).min(other.y + other.height) - self.y.max(other.y);
        let inter = width.max(0.0) * height.max(0.0);
        let union = self.area() + other.area() - inter;
        if union > 0.0 { inter / union } else { 0.0 }
    }
}

/// A face found in one frame.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Face {
    pub bbox: BBox,
    /// The detector's score, 0 to 1.
    pub score: f32,
    /// Points of the face, if the detector gives any.
    pub landmarks: Option<Landmarks>,
}

impl Face {
    /// Maps the face to other coordinates. `to` has to map upright rectangles to upright rectangles.
    pub fn map(&self, to: impl Fn(Point) -> Point) -> Self {
        let BBox { x, y, width, height } = self.bbox;
        let [corner, right, down] = [(x, y), (x + width, y), (x, y + height)].map(|(x, y)| to(Point { x, y }));
        let (across, below) = ((right.x - corner.x, right.y - corner.y), (down.x - corner.x, down.y - corner.y));
        let bbox = BBox {
            x: corner.x + across.0.min(0.0) + below.0.min(0.0),
            y: corner.y + across.1.min(0.0) + below.1.min(0.0),
            width: across.0.abs() + below.0.abs(),
            height: across.1.abs() + below.1.abs(),
        };
        let landmarks = self.landmarks.map(|landmarks| match landmarks {
            Landmarks::MouthCorners(points) => Landmarks::MouthCorners(points.map(&to)),
            Landmarks::Ears(points) => Landmarks::Ears(points.map(&to)),
        });
        Self { bbox, score: self.score, landmarks }
    }
}

/// Points of a face. They depend on the detector. Right and left are the person's own.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Landmarks {
    /// Right eye, left eye, tip of the nose, right and left corner of the mouth.
    MouthCorners([Point; 5]),
    /// Right eye, left eye, tip of the nose, middle of the mouth, right and left ear (tragus).
    Ears([Point; 6]),
}

impl Landmarks {
    /// Returns the right and the left eye.
    pub const fn eyes(&self) -> (Point, Point) {
        match self {
            Self::MouthCorners([right, left, ..]) | Self::Ears([right, left, ..]) => (*right, *left),
        }
    }
}

/// Head pose in degrees, relative to the camera. At 0, 0, 0 the head faces the camera.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize, ToSchema)]
pub struct Pose {
    /// Positive if the face is turned towards the right edge of the picture.
    pub yaw: f32,
    /// Positive if it points up.
    pub pitch: f32,
    /// Positive if the head is tilted clockwise in the picture.
    pub roll: f32,
}

/// Gaze direction in degrees, relative to the camera, from the head pose and the position of the eyes in the head. At
/// 0, 0 the eyes look into the camera.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize, ToSchema)]
pub struct Gaze {
    /// Positive if the eyes look towards the right edge of the picture.
    pub yaw: f32,
    /// Positive if it points up.
    pub pitch: f32,
}

/// The eyes of one face.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Eyes {
    /// Distance of the lids divided by the width of the eye, as the mean of both eyes: about 0.3 for open and 0.1 for
    /// shut eyes (the eye aspect ratio of Soukupova and Cech 2016, "Real-Time Eye Blink Detection using Facial
    /// Landmarks").
    pub openness: f32,
    /// Measured direction, without calibration of the person's offset.
    pub gaze: Gaze,
}
