"""Label three photographs with anchors that no image was collected for, and see which anchors spoke.

The default anchor set, `imagenet-head`, pairs the class prototypes in a classifier's last layer with the classes'
names and definitions. Most labels below are no ImageNet class.
"""

from pathlib import Path

import skimage

import asif

LABELS = [
    "a cat",
    "a space launch",
    "a hot drink",
    "a portrait of a woman",
    "a page of text",
    "a kitchen",
    "the surface of the moon",
    "a football match",
]
PHOTOS = ["chelsea.png", "rocket.jpg", "coffee.png"]


def main(home: Path | None = None) -> dict[str, str]:
    """Print the labels of the photos; return {photo: label}."""
    folder = Path(skimage.__file__).parent / "data"
    classifier = asif.Classifier(home=home).fit(LABELS)
    images = [str(folder / photo) for photo in PHOTOS]
    answers = {}
    for number, result in enumerate(classifier.engine_.classify(images, classifier.labels_, top=3, explain=3)):
        photo = PHOTOS[number]
        answers[photo] = result.label
        print(f"{photo}: " + ", ".join(f"{each.label} {each.score:.3f}" for each in result.predictions))
        if number == 0:
            print(f"  {result.label!r} because of")
            for value, record in zip(result.evidence.contributions.values, result.evidence.records, strict=True):
                print(f"    {value:.3f}  {record.captions[0][:80]}")
            print(f"    {result.evidence.contributions.remainder:.3f}  {result.evidence.contributions.others} others")
    return answers


if __name__ == "__main__":
    main()
