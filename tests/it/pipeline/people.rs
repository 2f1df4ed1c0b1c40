//! Identity of people over cuts and crossings, where positions do not identify them. The clips show two real people.

use visage::analysis::{Emotion, FaceSummary, Findings, Options, Sampling, TimelineRow};

use super::{EVERY_20TH, analyze, pipeline};
use crate::support::clips::{Clips, shared};

/// Analyzes a clip of scenes with a smiling man and a weeping woman on a grey background. Both faces have about the
/// same size. Each scene has a duration in seconds, and the distance of each person from the left edge.
fn scenes(scenes: &[(f64, &[(char, u32)])]) -> (Clips, Findings) {
    sampled(Sampling::Exact, scenes)
}

fn sampled(sampling: Sampling, scenes: &[(f64, &[(char, u32)])]) -> (Clips, Findings) {
    let (pipeline, _models) = pipeline();
    let man = shared("single_face.mp4");
    let woman = shared("sad_then_happy.mp4");
    let clips = Clips::new();
    std::fs::copy(man, clips.path("man.mp4")).unwrap();
    std::fs::copy(woman, clips.path("woman.mp4")).unwrap();
    let mut list = String::new();
    for (n, (seconds, people)) in scenes.iter().enumerate() {
        let mut filter = format!("color=gray:s=960x400:r=25:d={seconds}[room0]");
        for (layer, (who, x)) in people.iter().enumerate() {
            let cut = match who {
                'm' => "[0:v]fps=25,crop=200:260:190:50",
                _ => "[1:v]fps=25,crop=260:360:320:0,scale=190:-2",
            };
            let next = layer + 1;
            filter.push_str(&format!(";{cut}[p{layer}];[room{layer}][p{layer}]overlay=x={x}:y=70[room{next}]"));
        }
        let scene = format!(
            "-ss 0.6 -stream_loop 9 -i $man.mp4 -ss 1 -i $woman.mp4 -filter_complex {filter} -map [room{}] -t \
             {seconds} -an -c:v libx264 -preset ultrafast -pix_fmt yuv420p",
            people.len()
        );
        clips.make(&format!("scene{n}.mp4"), &scene);
        list.push_str(&format!("file scene{n}.mp4\n"));
    }
    clips.write("list.txt", list.as_bytes());
    let clip = clips.make("film.mp4", "-f concat -i $list.txt -c copy");
    let found = analyze(&pipeline, &clip, Options { sample_every: 10, sampling, ..EVERY_20TH }).unwrap();
    (clips, found)
}

fn rows<'a>(found: &'a Findings, face: &FaceSummary) -> Vec<&'a TimelineRow> {
    found.timeline.rows.iter().filter(|row| row.face == face.id).collect()
}

/// Returns the man and the woman, and checks that no other person was found.
fn both(found: &Findings) -> [&FaceSummary; 2] {
    let faces = &found.analysis.faces;
    assert_eq!(faces.len(), 2, "{faces:#?}");
    let of =
        |emotion| faces.iter().find(|face| face.dominant_emotion == emotion).unwrap_or_else(|| panic!("{faces:#?}"));
    [of(Emotion::Happy), of(Emotion::Sad)]
}

#[test]
fn identity_is_kept_if_two_people_swap_places_at_a_cut() {
    let (before, after) = ([('m', 150), ('w', 600)], [('w', 150), ('m', 600)]);
    let (_clips, found) = scenes(&[(2.0, &before), (2.0, &after)]);
    for (face, starts_left) in both(&found).into_iter().zip([true, false]) {
        assert_eq!(face.frames, 10, "{face:?}");
        for row in rows(&found, face) {
            assert_eq!(row.bbox.centre().x < 480.0, starts_left == (row.time_s < 2.0), "at {}", row.time_s);
        }
    }
}

#[test]
fn another_person_at_the_same_place_gets_another_identity() {
    let (_clips, found) = scenes(&[(2.0, &[('m', 300)]), (2.0, &[('w', 300)])]);
    let [man, woman] = both(&found);
    assert!(man.last_s < 2.0 && woman.first_s >= 2.0, "{man:?} {woman:?}");
    // By position alone, they would be one person.
    let (last, first) = (rows(&found, man).last().unwrap().bbox, rows(&found, woman)[0].bbox);
    assert!(last.iou(&first) > 0.3, "{last:?} {first:?}");
}

#[test]
fn person_after_a_cut_away_and_back_keeps_the_identity_at_another_place() {
    let film: [(f64, &[(char, u32)]); 5] =
        [(1.6, &[('m', 300)]), (2.4, &[('w', 300)]), (1.6, &[('m', 300)]), (2.0, &[('w', 300)]), (1.6, &[('m', 700)])];
    let (_clips, found) = scenes(&film);
    let [man, woman] = both(&found);
    assert!(man.first_s < 0.1 && man.last_s > 8.4, "{man:?}");
    assert!((1.5..2.1).contains(&woman.first_s) && (7.0..7.7).contains(&woman.last_s), "{woman:?}");
}

#[test]
fn identity_is_kept_if_two_people_cross_with_a_cut_in_between() {
    let (apart, close, swapped) = ([('m', 100), ('w', 700)], [('m', 290), ('w', 510)], [('w', 150), ('m', 650)]);
    let (_clips, found) = scenes(&[(1.6, &apart), (1.2, &close), (1.6, &swapped)]);
    let [man, woman] = both(&found);
    assert!(rows(&found, man)[0].bbox.centre().x < 480.0 && rows(&found, woman)[0].bbox.centre().x > 480.0);
    assert!(man.last_s >= 4.0 && woman.last_s >= 4.0, "{man:?} {woman:?}");
}

#[test]
fn fast_sampling_finds_people_who_appear_and_disappear() {
    let (man, both_of_them, woman) = ([('m', 150)], [('m', 150), ('w', 600)], [('w', 500)]);
    let parts: [(f64, &[(char, u32)]); 4] = [(4.0, &man), (4.0, &both_of_them), (3.0, &[]), (2.0, &woman)];
    let (_clips, found) = sampled(Sampling::Fast, &parts);
    let [man, woman] = both(&found);
    let times = |face| rows(&found, face).iter().map(|row| row.time_s).collect::<Vec<_>>();
    let (man, woman) = (times(man), times(woman));
    // All 20 samples of 8 s, except at most one at the start.
    assert!(man[0] < 0.4 && man.len() >= 18 && man.iter().all(|time| *time < 8.0), "{man:?}");
    // The whole frame is searched at every fourth sample.
    assert!((4.0..5.7).contains(&woman[0]), "{woman:?}");
    assert!(woman.iter().all(|time| *time < 8.0 || *time >= 11.0), "{woman:?}");
    assert!(woman.iter().any(|time| (11.0..11.5).contains(time)), "{woman:?}");
}

#[test]
fn fast_sampling_gives_the_figures_of_exact_sampling() {
    let (pipeline, _models) = pipeline();
    let clip = shared("sad_then_happy.mp4");
    let [exact, fast] = [Sampling::Exact, Sampling::Fast]
        .map(|sampling| analyze(&pipeline, &clip, Options { sample_every: 10, sampling, ..EVERY_20TH }).unwrap());
    let [exact, fast] = [&exact, &fast].map(|found| match &found.analysis.faces[..] {
        [face] => face,
        faces => panic!("{faces:#?}"),
    });
    assert_eq!(exact.dominant_emotion, fast.dominant_emotion);
    for (emotion, share) in &exact.emotions {
        let other = fast.emotions[emotion];
        assert!((share - other).abs() < 5.0, "{emotion:?}: {share} and {other}");
    }
}
