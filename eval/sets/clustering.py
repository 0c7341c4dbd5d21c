"""Questions about one thing put together and given a name, without a model and without a number of clusters.

Two questions are close when they share rare words, or documents: those that hold their answers, else those
that a search finds. Intervals and splits go by these clusters, so a coarse one is the careful mistake.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence

import numpy as np
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import squareform

from eval.errors import TooManyQuestionsError
from serving.similarity import Pair, content_words, groups, near_duplicates, stem, weigh, word_groups

#: Mean distance (1 - cosine) up to which clusters are merged. On 1,000 public bank questions with known
#: intents the agreement is best between .88 and .92.
CUT = 0.92
#: All pairs are held in memory at once.
MOST = 6_000
_NAME_WORDS, _FEWEST_WORDS = 3, 2
#: A word names a cluster if at least this share of its questions has it.
_NAMING_SHARE = 0.34


def cluster(
    texts: Sequence[str],
    documents: Sequence[frozenset[str]],
    *,
    near: Sequence[Pair] | None = None,
    cut: float = CUT,
) -> list[str]:
    """The name of each question's cluster. `documents` are those of each question, empty if not known; `near`
    are its near-duplicates, where the caller has them already."""
    if len(texts) > MOST:
        raise TooManyQuestionsError(
            f"{len(texts)} questions: at most {MOST} are clustered at once; narrow with --limit"
        )
    if len(texts) < 2:
        return _name([0] * len(texts), texts)
    matrix, _ = weigh(texts, word_groups)
    distance = 1.0 - (matrix @ matrix.T).toarray()
    _share_documents(distance, documents)
    for pair in near_duplicates(texts) if near is None else near:
        distance[pair.first, pair.second] = distance[pair.second, pair.first] = 0.0
    np.fill_diagonal(distance, 0.0)
    tree = linkage(squareform(distance.clip(0.0, 1.0), checks=False), "average")
    return _name([int(label) for label in fcluster(tree, cut, "distance")], texts)


def _share_documents(distance: np.ndarray, documents: Sequence[frozenset[str]]) -> None:
    """Bring questions together as far as their documents are the same ones."""
    holders: defaultdict[str, list[int]] = defaultdict(list)
    for at, found in enumerate(documents):
        for document in found:
            holders[document].append(at)
    shared: Counter[tuple[int, int]] = Counter()
    for together in holders.values():
        shared.update((first, second) for n, first in enumerate(together) for second in together[n + 1 :])
    for (first, second), both in shared.items():
        apart = 1 - both / (len(documents[first]) + len(documents[second]) - both)
        if apart < distance[first, second]:
            distance[first, second] = distance[second, first] = apart


def _name(labels: Sequence[int], texts: Sequence[str]) -> list[str]:
    """Names in place of numbers: words that many of a cluster's questions have and few others."""
    words = [content_words(text) for text in texts]
    stems = [[stem(word) for word in row] for row in words]
    everywhere = Counter(each for row in stems for each in set(row))
    spelling: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for row, stemmed in zip(words, stems, strict=True):
        for word, each in zip(row, stemmed, strict=True):
            spelling[each][word] += 1
    members: defaultdict[int, list[int]] = defaultdict(list)
    for at, label in enumerate(labels):
        members[label].append(at)
    names: dict[int, str] = {}
    taken: Counter[str] = Counter()
    # Larger clusters choose first, so that the plain name goes to the one that most people mean.
    for label, ats in sorted(members.items(), key=lambda item: (-len(item[1]), item[1][0])):
        here = Counter(each for at in ats for each in set(stems[at]))
        ranked = sorted(here, key=lambda each: (-here[each] * here[each] / everywhere[each], each))
        common = [each for each in ranked if here[each] >= _NAMING_SHARE * len(ats)]
        chosen = [
            spelling[each].most_common(1)[0][0]
            for each in dict.fromkeys((*common[:_NAME_WORDS], *ranked[:_FEWEST_WORDS]))
        ][:_NAME_WORDS]
        name = " ".join(dict.fromkeys(chosen)) or "other"
        taken[name] += 1
        names[label] = name if taken[name] == 1 else f"{name} {taken[name]}"
    return [names[label] for label in labels]


def tied(clusters: Sequence[str], near: Sequence[Pair]) -> list[int]:
    """For each question the first one that it must stay with: of its cluster, or nearly the same question."""
    first_of: dict[str, int] = {}
    links = [(first_of.setdefault(name, at), at) for at, name in enumerate(clusters)]
    links += [(pair.first, pair.second) for pair in near]
    return groups(len(clusters), links)
