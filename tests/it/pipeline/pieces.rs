//! Analyzes videos in pieces and joins them. The result is the same as in one piece.

use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;

use visage::analysis::{Findings, Options, Sampling, Warning};
use visage::config::Settings;
use visage::media::{Every, Pieces, Position, Source, Stretch};
use visage::pipeline::{Again, AnalyzedPiece, BegunPiece, Cancel, Joined, Piece, PieceProgress, Pipeline};

use super::EVERY_20TH;
use super::continued::{PIECE_S, clips, read, sideways};
use crate::support::clips::{Clips, Models, models, shared};
use crate::support::decoders;

#[test]
fn the_frames_of_all_pieces_are_those_of_the_video() {
    let made = Clips::new();
    for path in clips(&made) {
        for every in [Every::exact(7), Every::exact(1), Every { frames: 10, sampling: Sampling::Fast }] {
            let what = format!("{} {every:?}", path.display());
            let (all, _, end) = read(&path, every, Position::default(), usize::MAX);
            let first = read(&path, every, Position::default(), 1).1;
            if !first.allows_pieces() {
                assert!(what.contains("counted.mkv") || what.contains("asp.avi"), "{what}");
                continue;
            }
            let (mut joined, mut place, mut filled) = (Vec::new(), Position::default(), 0);
            for piece in 0..8 {
                let start = if piece == 0 { Position::default() } else { first.at_piece() };
                assert_eq!(start, place.at_piece(), "{what} piece {piece}");
                // The last one has the rest.
                let pieces = Pieces { from: piece, until: (piece < 7).then_some(piece + 1) };
                let (pictures, after, _) = read(&path, every, Stretch { start, pieces }, usize::MAX);
                let alone = |(index, time_s, picture)| (index + place.samples(), time_s, picture);
                filled += usize::from(!pictures.is_empty());
                joined.extend(pictures.into_iter().map(alone));
                place.pass_piece(&after);
            }
            assert!(joined == all, "{what}: {} and {} samples", joined.len(), all.len());
            let is_whole = what.contains("one_gop") || what.contains("open");
            assert_eq!(filled > 2, !is_whole, "{what}: {filled} pieces have samples");
            let (none, _, joined_end) = read(&path, every, Stretch { start: place, pieces: Pieces::NONE }, usize::MAX);
            assert_eq!((none.len(), joined_end), (0, end), "{what}");
        }
    }
}

/// A pipeline with short pieces.
fn pipeline() -> (Pipeline, Models) {
    pipeline_with(|_| {})
}

fn pipeline_with(change: impl FnOnce(&mut Settings)) -> (Pipeline, Models) {
    let models = models().with("silero_vad.onnx");
    let mut settings = models.settings();
    settings.video.piece_s = PIECE_S;
    change(&mut settings);
    (Pipeline::load(&settings, &decoders(&settings)).unwrap(), models)
}

/// Analyzes all pieces with one pipeline and joins them with another one, until they fit. Returns the findings, and what
/// had to be done again.
fn in_pieces(does: &Pipeline, joins: &Pipeline, path: &Path, options: Options) -> (Findings, Vec<Again>) {
    let (source, cancel) = (Source::File(path.to_owned()), Cancel::default());
    let pieces = does.pieces(&source, options, 1, &cancel).unwrap().unwrap();
    let run = |pipeline: &Pipeline, piece: &Piece| {
        let piece = serde_json::from_str(&serde_json::to_string(piece).unwrap()).unwrap();
        let analyzed =
            pipeline.analyze_piece(&source, options, piece, PieceProgress::none(), &|_| {}, &cancel).unwrap();
        serde_json::from_str(&serde_json::to_string(&analyzed).unwrap()).unwrap()
    };
    let mut analyzed: Vec<AnalyzedPiece> = pieces.iter().map(|piece| run(does, piece)).collect();
    let sound = joins.hear(&source, options, &cancel).unwrap();
    let mut again = Vec::new();
    loop {
        match joins.join(&source, options, &analyzed, &sound, &cancel).unwrap() {
            Joined::Findings(findings) => return (*findings, again),
            Joined::Again(redo) => {
                assert!(again.len() < pieces.len(), "{redo:?}");
                for (number, piece) in &redo.pieces {
                    analyzed[*number] = run(if redo.is_shared { does } else { joins }, piece);
                }
                again.push(redo);
            }
        }
    }
}

/// Checks that a video has the same findings in pieces. Returns the findings, and what was done again.
fn assert_same(path: &Path, options: Options) -> (Findings, Vec<Again>) {
    let (pipeline, _models) = pipeline();
    let whole = pipeline.analyze(&Source::File(path.to_owned()), options, &|_| {}, &Cancel::default()).unwrap();
    let (joined, again) = in_pieces(&pipeline, &pipeline, path, options);
    assert!(joined == whole, "{} {options:?}", path.display());
    (joined, again)
}

#[test]
fn findings_are_the_same_in_pieces() {
    let clip = shared("sad_then_happy.mp4");
    for sampling in [Sampling::Exact, Sampling::Fast] {
        let (_, again) = assert_same(&clip, Options { sampling, sample_every: 3, ..EVERY_20TH });
        assert!(again.is_empty(), "{again:?}");
    }
    let made = Clips::new();
    let (woman, man) = (clip.display(), shared("single_face.mp4").display().to_string());
    let two = format!(
        "-i {woman} -i {man} -filter_complex [0:v]fps=25,scale=640:360[a];[1:v]fps=25,scale=640:360[b];[a][b]hstack -an -t 8 -g 25 -preset ultrafast"
    );
    let (findings, again) = assert_same(&made.make("two.mp4", &two), EVERY_20TH);
    assert_eq!((findings.analysis.faces.len(), again.len()), (2, 0));
}

#[test]
fn a_piece_is_the_same_after_it_was_broken_off() {
    let (pipeline, _models) = pipeline();
    let (source, cancel) = (Source::File(shared("sad_then_happy.mp4")), Cancel::default());
    let options = Options { sampling: Sampling::Fast, sample_every: 3, ..EVERY_20TH };
    let pieces = pipeline.pieces(&source, options, 1, &cancel).unwrap().unwrap();
    // The second and the last piece begin in different states.
    for piece in [pieces[1], *pieces.last().unwrap()] {
        let analyze = |begun: Option<&BegunPiece>| {
            let kept = Mutex::new(Vec::new());
            let keep = |begun: BegunPiece| kept.lock().unwrap().push(begun);
            let begun = begun.map(|begun| serde_json::from_str(&serde_json::to_string(begun).unwrap()).unwrap());
            let earlier = PieceProgress { begun, every: Duration::ZERO, keep: Some(&keep) };
            let analyzed = pipeline.analyze_piece(&source, options, piece, earlier, &|_| {}, &cancel).unwrap();
            (analyzed, kept.into_inner().unwrap())
        };
        let (whole, kept) = analyze(None);
        assert!(kept.len() > 5, "{} samples", kept.len());
        for broken_off in [0, kept.len() / 2, kept.len() - 1] {
            let (continued, rest) = analyze(Some(&kept[broken_off]));
            assert!(continued == whole, "after {broken_off}");
            assert_eq!(rest.len(), kept.len() - 1 - broken_off, "only the rest is analyzed");
        }
    }
    // What was read of another piece is of no use.
    let kept = Mutex::new(Vec::new());
    let keep = |begun: BegunPiece| kept.lock().unwrap().push(begun);
    let earlier = PieceProgress { begun: None, every: Duration::ZERO, keep: Some(&keep) };
    let first = pipeline.analyze_piece(&source, options, pieces[0], earlier, &|_| {}, &cancel).unwrap();
    let begun = kept.lock().unwrap().pop();
    let earlier = PieceProgress { begun, ..PieceProgress::none() };
    let second = pipeline.analyze_piece(&source, options, pieces[1], earlier, &|_| {}, &cancel).unwrap();
    assert!(second != first);
    let again = pipeline.analyze_piece(&source, options, pieces[1], PieceProgress::none(), &|_| {}, &cancel).unwrap();
    assert!(second == again);
}

#[test]
fn a_video_filmed_sideways_is_turned_in_all_pieces() {
    let made = Clips::new();
    let turned = sideways(&made);
    let (findings, again) = assert_same(&turned, Options { sample_every: 5, ..EVERY_20TH });
    assert_eq!(findings.analysis.video.turned, 270);
    // All pieces once.
    assert_eq!(again.iter().map(|again| again.pieces.len()).collect::<Vec<_>>(), [2]);
}

#[test]
fn sound_is_analyzed_beside_the_pieces() {
    let talk = shared("speech_and_face.mp4");
    let (findings, _) = assert_same(&talk, EVERY_20TH);
    assert!(findings.analysis.speech.is_some());
    let (findings, _) = assert_same(&talk, Options { speech: false, ..EVERY_20TH });
    assert!(findings.analysis.warning_codes.contains(&Warning::SpeechLeftOut), "{:?}", findings.analysis.warning_codes);
}

#[test]
fn a_piece_that_another_configuration_made_is_made_again() {
    let (ours, _models) = pipeline();
    let (others, _other_models) = pipeline_with(|settings| settings.vision.gaze = false);
    let clip = shared("sad_then_happy.mp4");
    let (joined, again) = in_pieces(&others, &ours, &clip, EVERY_20TH);
    assert!(again.len() == 1 && again[0].pieces.len() > 5 && !again[0].is_shared, "{again:?}");
    let whole = ours.analyze(&Source::File(clip), EVERY_20TH, &|_| {}, &Cancel::default()).unwrap();
    assert_eq!(joined, whole);
}
