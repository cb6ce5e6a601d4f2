"""French: no text is missing or unused, names agree, terms are those of the glossary, and the typography is French."""

import ast
import html.parser
import re
import string

import pytest

from jaxnets.languages import texts
from jaxnets.report.page import WITHOUT_SCRIPT

from .french import PACKAGE, french_texts, glossary

FRENCH = texts("fr")
SCRIPTS = {path.name: path.read_text() for path in (PACKAGE / "report" / "script").glob("*.js")}
COMPUTE = ("report", "show", "autodiff", "algebra", "learn", "layers")  # wings whose words are in the page's data
GUIDE = (PACKAGE / "guide" / "performance.md").read_text()  # the page shows its tables
OTHER_WORDS = {  # what else one might say for a term; the translations keep to one word
    "accuracy": r"précision|justesse",
    "automatic differentiation": r"dérivation automatique|différenciation",
    "backpropagation": r"rétro-propagation|backprop",
    "batch": r"\bbatch",
    "chain rule": r"théorème de dérivation",
    "cross-entropy": r"entropie-croisée|cross",
    "decision boundary": r"(?i)\blimites? de décision|surfaces? de décision",
    "dropout": r"(?i)(?<!abandon \()\bdropout",
    "epoch": r"\bepoch",
    "finite differences": r"différence finie\b",
    "full batch": r"lot entier d",
    "gradient descent": r"descente du gradient|descente de la pente",
    "heat map": r"carte thermique|heatmap",
    "Jacobian": r"\b[Jj]acobiens?\b|\b[Mm]atrices? Jacobiennes?",
    "kink": r"\bcoin\b|\bcoude",
    "label": r"\blabel",
    "layer": r"\blayer",
    "learning rate": r"taux d’entraînement|vitesse d’apprentissage|pas d’apprentissage|learning",
    "loss function": r"fonctions? de coût d|fonctions? objectif",
    "mini-batch": r"mini-?batch|minilot|mini lot",
    "network": r"réseaux? neurona",
    "non-linearity": r"non linéarité",
    "notebook": r"\bnotebook(?! Jupyter)|calepin",
    "one-hot encoding": r"one hot|(?<!en)codage|un parmi",
    "overfitting": r"sur-apprentissage|surajustement|overfitting",
    "seed": r"\bseed|germe",
    "stochastic gradient descent": r"\bSGD\b|stochastique du gradient",
    "training": r"\bentrainement|apprentissage du réseau",
    "vanishing gradient": r"gradient évanescent|évanouissement|gradients? qui dispara",
    "weight": r"\bpondération\b",
}


class StaticTexts(html.parser.HTMLParser):
    """The texts of page.html: those that the script translates, and all others."""

    def __init__(self):
        super().__init__()
        self.translated, self.others, self.open = [], [], []
        self.feed((PACKAGE / "report" / "page.html").read_text())

    def handle_starttag(self, tag, attrs):
        self.open.append((tag, "data-say" in dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop()[0] == tag

    def handle_data(self, data):
        words = " ".join(data.split())
        if words:
            (self.translated if self.open[-1][1] else self.others).append(words)


def shown_by_scripts() -> list[str]:
    """The English texts of all `say("…")`."""
    return [
        ast.literal_eval(text) for code in SCRIPTS.values() for text in re.findall(r'\bsay\(\s*("(?:[^"\\]|\\.)*")', code)
    ]


def names_in(text: str) -> list[str]:
    return sorted(name for _, name, _, _ in string.Formatter().parse(text) if name)


def test_every_text_of_the_page_is_french_too_and_no_french_text_is_unused():
    static = StaticTexts()
    assert static.others == ["jaxnets", "/*STYLE*/", "jaxnets", "__WITHOUT_SCRIPT__", "__TEXTS__", "__DATA__", "/*SCRIPT*/"]
    shown = {*static.translated, *shown_by_scripts(), WITHOUT_SCRIPT}
    assert sorted(shown - set(FRENCH["page"])) == []
    assert sorted(set(FRENCH["page"]) - shown) == []


def test_scripts_say_texts_as_they_stand():
    """Only what stands between the parentheses can be looked for; the texts of page.html are the one exception."""
    calls = re.findall(r"\bsay\(\s*([^\s,)]*)", "\n".join(SCRIPTS.values()))
    assert [call for call in calls if not call.startswith('"')] == ["element.dataset.say"]


def strings_of(wing: str) -> str:
    """Every text in the code of a wing, one per line."""
    trees = [ast.parse(path.read_text()) for path in (PACKAGE / wing).rglob("*.py")]
    found = [node.value for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Constant)]
    return "\n".join(text for text in found if isinstance(text, str))


@pytest.fixture(scope="module")
def words_of_python():
    return "\n".join([*map(strings_of, COMPUTE), GUIDE])


@pytest.mark.parametrize("english", FRENCH["computed"])
def test_what_python_computes_is_said_by_python(english, words_of_python):
    """The parts between the names in braces stand in the code, so a text that is worded anew there is missed here."""
    for part in filter(str.strip, re.split(r"\{\w+\}", english)):
        assert part in words_of_python


def test_commands_say_their_texts():
    assert sorted(english for english in FRENCH["commands"] if english not in strings_of("cli") + strings_of("course")) == []


@pytest.mark.parametrize("section", FRENCH)
def test_names_in_braces_agree(section):
    assert [english for english, text in FRENCH[section].items() if names_in(english) != names_in(text)] == []


def test_spaces_and_apostrophes_are_those_of_french():
    """A no-break space before : ; ? ! » % and after «, ’ and not ', … and not three points."""
    wrong = r" [:;?!»%](?![\w|-])|[^\s\N{NO-BREAK SPACE}][;?!»](?!\w)|« |[^\W\d_]'[^\W\d_]|\.\.\."
    found = {place: re.findall(wrong, text) for place, text in french_texts().items()}
    assert {place: marks for place, marks in found.items() if marks} == {}


def test_terms_are_those_of_the_glossary():
    terms = glossary()
    assert list(terms) == sorted(terms, key=str.lower)
    assert set(OTHER_WORDS) <= set(terms)
    found = [
        (place, word)
        for place, text in french_texts().items()
        for others in OTHER_WORDS.values()
        for word in re.findall(others, text)
    ]
    assert found == []


def test_every_term_of_the_glossary_is_used():
    """But for some that students meet elsewhere in the guide and in the course."""
    elsewhere = {"overfitting", "per-example gradient"}
    used = singular("\n".join(text for text in french_texts().values() if not text.startswith("\n| en français")))
    terms = glossary()
    assert elsewhere < set(terms)
    assert [french for english, french in terms.items() if singular(french) not in used and english not in elsewhere] == []


def singular(text: str) -> str:
    """A text in small letters whose words have no s at their end."""
    return re.sub(r"s\b", "", text.lower())


def test_the_page_shows_no_marks_of_code():
    """It shows every text as it stands, so that a backtick would be seen."""
    assert [text for pair in FRENCH["page"].items() for text in pair if "`" in text] == []
