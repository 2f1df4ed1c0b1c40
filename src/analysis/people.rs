//! Assigns the faces of single pictures to people.
//!
//! Pictures have no times, so position and motion say nothing about who a face is. The appearance (the colours of hair,
//! skin and clothes, see [`super::appearance`]) is compared alone, with the threshold that [`super::Tracker`] uses for
//! a face at any position. So an id holds for one set of clothes, and nobody can be recognised by it later. Measured
//! with a group photograph of five people; the threshold is 0.8:
//!
//! | compared with the photograph | similarity |
//! | --- | --- |
//! | the same people, mirrored, cropped, half or twice as large | at least 0.89 |
//! | turned by 3 degrees | at least 0.84 |
//! | with more contrast or darker by 4 % | at least 0.75: one of the five gets a new id |
//! | with another gamma (0.8) or colour temperature | at least 0.65: all five get a new id |
//! | two different people | at most 0.73 |

use super::Appearance;
use super::motion::assign;
use super::track::SAME_APPEARANCE;

/// Maximum number of people. If there are more, those who were not seen for the largest number of pictures are
/// forgotten.
const MOST: usize = 32;
/// Ids stay below this number, so that the next one never overflows.
const ID_LIMIT: u32 = 1 << 30;

/// The people of the pictures so far.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct People {
    /// Number of ids that were given.
    given: u32,
    /// In order of their last picture.
    known: Vec<Person>,
}

#[derive(Debug, Clone, PartialEq)]
struct Person {
    id: u32,
    appearance: Appearance,
}

impl People {
    /// Returns the id of each face of the next picture. Ids start at 1. A face that looks like nobody before gets a new
    /// id, and no two faces of a picture get the same one.
    pub fn assign(&mut self, faces: &[Appearance]) -> Vec<u32> {
        let affinity = |face: &Appearance, person: &Person| {
            face.similarity(&person.appearance).filter(|similarity| *similarity >= SAME_APPEARANCE).unwrap_or(0.0)
        };
        let affinities: Vec<Vec<f32>> =
            faces.iter().map(|face| self.known.iter().map(|person| affinity(face, person)).collect()).collect();
        let owners = assign(&affinities);
        let mut known: Vec<Option<Person>> = std::mem::take(&mut self.known).into_iter().map(Some).collect();
        let seen: Vec<Person> = faces
            .iter()
            .zip(owners)
            .map(|(face, owner)| match owner.and_then(|owner| known[owner].take()) {
                Some(mut person) => {
                    person.appearance.update(face);
                    person
                }
                None => {
                    self.given = (self.given + 1).min(ID_LIMIT - 1);
                    Person { id: self.given, appearance: face.clone() }
                }
            })
            .collect();
        let ids = seen.iter().map(|person| person.id).collect();
        self.known = known.into_iter().flatten().chain(seen).collect();
        self.known.drain(..self.known.len().saturating_sub(MOST));
        ids
    }

    /// Returns the people as bytes, at most 32,000.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = self.given.to_be_bytes().to_vec();
        for Person { id, appearance } in &self.known {
            bytes.extend(id.to_be_bytes());
            appearance.write(&mut bytes);
        }
        bytes
    }

    /// Reads what [`People::to_bytes`] wrote. Returns `None` for any other bytes.
    pub fn from_bytes(mut bytes: &[u8]) -> Option<Self> {
        let from = &mut bytes;
        let mut people = Self { given: number(from)?, known: Vec::new() };
        while !from.is_empty() {
            let person = Person { id: number(from)?, appearance: Appearance::read(from)? };
            let is_new = people.known.iter().all(|known| known.id != person.id);
            if !is_new || !(1..=people.given).contains(&person.id) || people.known.len() == MOST {
                return None;
            }
            people.known.push(person);
        }
        (people.given < ID_LIMIT).then_some(people)
    }
}

fn number(from: &mut &[u8]) -> Option<u32> {
    Some(u32::from_be_bytes(from.split_off(..4)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::appearance::tests::wearing;

    /// People in clothes of clearly different colours.
    fn person(number: u8) -> Appearance {
        let lightness = |shift: u8| 10.0 + 80.0 * f32::from((number + shift) % 6) / 5.0;
        let hue = -25.0 + 70.0 * f32::from(number / 6 % 7) / 6.0;
        wearing([lightness(0), hue, 0.0], [lightness(2), 12.0, hue], [lightness(4), hue, -20.0])
    }

    #[test]
    fn people_keep_their_ids_from_picture_to_picture() {
        let mut people = People::default();
        assert_eq!(people.assign(&[person(0), person(1)]), [1, 2]);
        assert_eq!(people.assign(&[person(1)]), [2]);
        assert_eq!(people.assign(&[]), [0; 0]);
        assert_eq!(people.assign(&[person(2), person(1), person(0)]), [3, 2, 1]);
    }

    #[test]
    fn two_faces_of_a_picture_are_two_people_even_if_they_look_alike() {
        let mut people = People::default();
        assert_eq!(people.assign(&[person(0), person(0)]), [1, 2]);
        let again = people.assign(&[person(0), person(0)]);
        assert!(again == [1, 2] || again == [2, 1], "{again:?}");
    }

    #[test]
    fn a_face_without_any_known_part_is_a_new_person() {
        let mut people = People::default();
        assert_eq!(people.assign(&[Appearance::default()]), [1]);
        assert_eq!(people.assign(&[Appearance::default()]), [2]);
    }

    #[test]
    fn those_not_seen_for_longest_are_forgotten_and_ids_are_not_given_again() {
        let mut people = People::default();
        let all: Vec<Appearance> = (0..33).map(person).collect();
        people.assign(&all[..1]);
        assert_eq!(people.assign(&all[1..]), (2..=33).collect::<Vec<_>>());
        assert_eq!(people.known.len(), MOST);
        assert_eq!(people.assign(&all[..1]), [34], "the first one was forgotten");
        assert_eq!(people.assign(&all[5..6]), [6]);
    }

    #[test]
    fn bytes_give_the_same_ids_as_the_people_that_wrote_them() {
        let mut people = People::default();
        people.assign(&(0..32).map(person).collect::<Vec<_>>());
        let bytes = people.to_bytes();
        assert!(bytes.len() <= 32_000, "{}", bytes.len());
        let mut read = People::from_bytes(&bytes).unwrap();
        assert_eq!(read.assign(&[person(7), person(40)]), [8, 33]);
        assert_eq!(People::from_bytes(&People::default().to_bytes()), Some(People::default()));
    }

    #[test]
    fn other_bytes_are_no_people() {
        let mut people = People::default();
        people.assign(&[person(0), person(1)]);
        let bytes = people.to_bytes();
        let second = bytes.len() / 2 + 2;
        for wrong in [
            bytes[..bytes.len() - 1].to_vec(),
            [&bytes[..], &[0]].concat(),
            [&[0, 0, 0, 1], &bytes[4..]].concat(),
            [&[255, 0, 0, 1], &bytes[4..]].concat(),
            [&bytes[..second], &bytes[4..]].concat(),
            Vec::new(),
            vec![0; 3],
        ] {
            assert_eq!(People::from_bytes(&wrong), None, "{wrong:?}");
        }
    }
}
