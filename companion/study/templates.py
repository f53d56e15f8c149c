"""Write texts from templates: fill the slots with words, and make the changed text and the twin."""

import re

CONTRACTIONS = {
    r"\bcannot\b": "can't",
    r"\bwill not\b": "won't",
    r"\b(is|are|was|were|do|does|did|have|has|had|would|could|should) not\b": r"\1n't",
    r"\bI am\b": "I'm",
    r"\b([Ii]t|[Tt]hat|[Tt]here) is\b": r"\1's",
    r"\b([Tt]hey|[Yy]ou|[Ww]e) are\b": r"\1're",
    r"\b(I|[Yy]ou|[Ww]e) have\b": r"\1've",
    r"\b(I|[Yy]ou|[Ww]e) will\b": r"\1'll",
}


def fill(template: dict, lexicon: dict, rng) -> dict[str, str]:
    """Return the texts of one case by role. Slots of one name, digits aside, get different words."""
    words, vary = {}, template.get("vary")
    for slot in dict.fromkeys(re.findall(r"{(\w+)}", template["text"])):
        name = slot.rstrip("0123456789")
        taken = {word for other, word in words.items() if other.rstrip("0123456789") == name}
        words[slot] = choose([word for word in lexicon[name] if word not in taken], rng)

    def write(pattern, words):
        text = pattern.format(**words)
        return text[0].upper() + text[1:]

    texts = {"text": write(template["text"], words)}
    if "twin" in template:
        texts["twin"] = write(template["twin"]["text"], words)
    if vary in words:
        other = choose([word for word in lexicon[vary] if word != words[vary]], rng)
        texts["changed"] = write(template["text"], words | {vary: other})
    elif vary in CHANGES:
        texts["changed"] = CHANGES[vary](texts["text"], rng)
    elif vary:
        texts["changed"] = f"{texts['text']} {choose(lexicon[vary], rng)}"
    return texts


def choose(options: list, rng):
    return options[rng.integers(len(options))]


def typo(text: str, rng) -> str:
    """Two neighbouring letters inside one of the longer words change places."""
    places = [m.start() + i for m in re.finditer(r"[A-Za-z]{5,}", text) for i in range(1, len(m[0]) - 2)]
    i = choose([i for i in places if text[i] != text[i + 1]], rng)
    return text[:i] + text[i + 1] + text[i] + text[i + 2 :]


def contract(text: str, rng) -> str:
    for long, short in CONTRACTIONS.items():
        text = re.sub(long, short, text)
    return text


def strip_punctuation(text: str, rng) -> str:
    return re.sub(r"[,;:.!]", "", text)


CHANGES = {"typo": typo, "contraction": contract, "punctuation": strip_punctuation}
