"""Compares the emotion classifier between groups of people: 102 people of the Face Research Lab London Set, see fetch.sh.

usage: python fairness.py DIR [PROGRAM]

DIR is that of fetch.sh. PROGRAM is target/release/visage. Prints how many neutral and smiling faces are classified
correctly by gender, ethnicity and age, with intervals. Then how much the smiles differ between women and men by another
network (the movements mouthSmileLeft and mouthSmileRight of MediaPipe's blendshapes), and what is left of the difference
between women and men if their smiles are equally strong. Writes DIR/labels.csv and DIR/movements/.
"""

import csv
import json
import subprocess
import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]


def age_group(years):
    if not years.isdigit():
        return "unknown"
    return "up to 24" if int(years) <= 24 else "25 to 29" if int(years) <= 29 else "30 and more"


def write_labels(folder, people):
    with open(folder / "labels.csv", "w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["file", "label", "gender", "ethnicity", "age"])
        for picture in sorted((folder / "pictures").glob("*.jpg")):
            person, expression = picture.stem.split("-")
            facts = people[person]
            label = "happy" if expression == "smiling" else "neutral"
            rows.writerow([picture.name, label, facts["face_gender"], facts["face_eth"], age_group(facts["face_age"])])


def smiles(folder, program, people):
    """For each smiling picture: its person's gender, how strong the smile is (0 to 1), and whether it is called happy."""
    subprocess.run([program, "analyze", folder / "pictures", "--detail", "expressions", "--out", folder / "movements"],
                   cwd=ROOT, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    for result in sorted((folder / "movements").glob("*-smiling.jpg-*.json")):
        [face, *_] = json.loads(result.read_text())["faces"]
        moved = face["expressions"]
        strength = (moved.get("mouthSmileLeft", 0) + moved.get("mouthSmileRight", 0)) / 2
        yield people[result.name[:3]]["face_gender"], strength, face["dominant_emotion"] == "happy"


def logistic(x, y):
    """Coefficients of a logistic regression and their standard errors, by Newton's method."""
    beta = np.zeros(x.shape[1])
    for _ in range(50):
        p = 1 / (1 + np.exp(-x @ beta))
        information = (x * (p * (1 - p))[:, None]).T @ x
        beta = beta + np.linalg.solve(information, x.T @ (y - p))
    return beta, np.sqrt(np.diag(np.linalg.inv(information)))


def main():
    folder = Path(sys.argv[1]).resolve()
    program = Path(sys.argv[2] if len(sys.argv) > 2 else ROOT / "target/release/visage").resolve()
    with open(folder / "people.csv", newline="") as file:
        people = {row["face_id"]: row for row in csv.DictReader(file)}
    write_labels(folder, people)
    groups = [word for column in ("gender", "ethnicity", "age") for word in ("--by", column)]
    subprocess.run([program, "eval", "emotion", "--images", folder / "pictures", "--labels", folder / "labels.csv", *groups],
                   cwd=ROOT, check=True, stderr=subprocess.DEVNULL)
    seen = list(smiles(folder, program, people))
    print("\nstrength of the smiles by another network, 0 to 1")
    for gender in ("female", "male"):
        own = np.array([strength for of, strength, _ in seen if of == gender])
        print(f"{gender:8} {len(own):4} people   mean {own.mean():.2f}   quartiles {np.quantile(own, [.25, .5, .75]).round(2)}")
    x = np.array([[1, strength, gender == "male"] for gender, strength, _ in seen], float)
    (_, _, male), (_, _, error) = logistic(x, np.array([float(happy) for *_, happy in seen]))
    print(f"of equally strong smiles, the odds that one is called happy are {np.exp(male):.2f} times as high for men as for women "
          f"(95 % interval {np.exp(male - 1.96 * error):.2f} to {np.exp(male + 1.96 * error):.2f}; 1: no difference)")


main()
