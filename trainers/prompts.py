"""The words for a subject, and the prompts they make. Imports nothing heavy."""

from trainers.spec import SubjectSpec


def subject_words(identifier: str, class_noun: str) -> str:
    return f"{identifier} {class_noun}".strip()


def class_words(class_noun: str) -> str:
    """The class with its article: "a dog", "an owl"."""
    return f"{'an' if class_noun[:1].lower() in 'aeiou' else 'a'} {class_noun}"


def instance_prompt(subject: SubjectSpec) -> str:
    """What the instance images are trained with: the subject's own, or "a photo of sks dog"."""
    return subject.instance_prompt or f"a photo of {subject_words(subject.identifier, subject.class_noun)}"


def class_prompt(subject: SubjectSpec) -> str:
    """What the class images are sampled and trained with: the subject's own, or "a photo of a dog"."""
    return subject.class_prompt or f"a photo of {class_words(subject.class_noun)}"
