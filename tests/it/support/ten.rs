//! Ten videos of different kinds, with whose results page, report, JSON and mail are compared.

use std::path::PathBuf;

use super::clips::{Clips, shared};

/// A video, the interval of its samples in frames, and the number of people in it.
pub struct Kind {
    pub name: &'static str,
    pub path: PathBuf,
    pub sample_every: u32,
    pub people: usize,
}

/// Makes the ten videos.
pub fn kinds(made: &Clips) -> [Kind; 10] {
    for name in ["sad_then_happy.mp4", "single_face.mp4", "multi_face.jpg"] {
        std::os::unix::fs::symlink(shared(name), made.path(name)).unwrap();
    }
    let h264 = "-an -c:v libx264 -pix_fmt yuv420p";
    let side_by_side = "-stream_loop 8 -i $single_face.mp4 -i $sad_then_happy.mp4 -filter_complex \
                        [0:v]fps=24[l];[1:v]fps=24[r];[l][r]hstack -t 8";
    let kind = |name, path, sample_every, people| Kind { name, path, sample_every, people };
    [
        kind("one", shared("sad_then_happy.mp4"), 20, 1),
        kind("speech", shared("speech_and_face.mp4"), 20, 1),
        kind("gone", shared("face_then_none.mov"), 20, 1),
        kind("nobody", shared("no_face.mp4"), 20, 0),
        kind("two", made.make("two.mp4", &format!("{side_by_side} {h264}")), 12, 2),
        kind(
            "five",
            made.make("five.mp4", &format!("-loop 1 -i $multi_face.jpg -t 2 -r 10 -vf scale=960:-2 {h264}")),
            2,
            5,
        ),
        kind("long", made.make("long.mp4", "-stream_loop 19 -i $sad_then_happy.mp4 -c copy -t 390"), 100, 1),
        kind(
            "portrait",
            made.make("portrait.mp4", &format!("-i $single_face.mp4 -vf crop=trunc(ih/4)*2:ih {h264}")),
            5,
            1,
        ),
        kind("short", made.make("short.mp4", &format!("-i $single_face.mp4 -t 0.6 {h264}")), 20, 1),
        kind("mirrored", made.make("mirrored.webm", "-i $single_face.mp4 -an -vf hflip -c:v libvpx -b:v 1M"), 20, 1),
    ]
}
