"""The mechanism of languages: which one is chosen, and what is said in it."""

import pytest

from jaxnets.languages import LANGUAGES, NAMES, language_of, said, texts


@pytest.mark.parametrize(
    ("environment", "language"),
    [
        ({}, "en"),
        ({"LANG": "fr_FR.UTF-8"}, "fr"),
        ({"LANG": "fr"}, "fr"),
        ({"LANG": "FR_be@euro"}, "fr"),
        ({"LANG": "frp_FR"}, "en"),  # another language, whose code begins alike
        ({"LANG": "de_DE.UTF-8"}, "en"),
        ({"LANG": "fr_FR.UTF-8", "LC_MESSAGES": "en_GB.UTF-8"}, "en"),
        ({"LANG": "en_GB.UTF-8", "LC_MESSAGES": "fr_CA.UTF-8"}, "fr"),
        ({"LANG": "fr_FR", "LC_MESSAGES": "fr_FR", "LC_ALL": "C"}, "en"),
        ({"LANG": "en_GB", "LC_MESSAGES": "C", "LC_ALL": "fr-CH"}, "fr"),
        ({"LANG": "fr_FR", "LC_ALL": ""}, "fr"),  # an empty variable is none
        ({"LANGUAGE": "fr", "LC_CTYPE": "fr_FR"}, "en"),  # these say nothing about messages in POSIX
    ],
)
def test_the_environment_chooses_as_in_posix(environment, language):
    assert language_of(environment) == language


def test_every_language_has_a_name_and_only_english_has_no_texts():
    assert list(NAMES) == list(LANGUAGES)
    assert [language for language in LANGUAGES if not texts(language)] == ["en"]


def test_what_is_not_translated_is_english():
    assert said("pages: {names}", "fr", names="course") == "pages\N{NO-BREAK SPACE}: course"
    assert said("pages: {names}", "en", names="course") == "pages: course"
    assert said("no such text, {x}", "fr", x=3) == "no such text, 3"
    assert said("Graph", "fr") == "Graph" and said("Graph", "fr", "page") == "Graphe"
