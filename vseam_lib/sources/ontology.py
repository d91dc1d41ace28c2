"""Which GQA names belong to which category of the paper (Table 1): plain lists, read as data.

The paper names its categories but publishes no lists. These hold GQA names whose membership
is beyond doubt ("hot dog" is no animal, "window" no vehicle). A name that is in no list is
filed nowhere rather than guessed.
"""

from __future__ import annotations

import re

from vseam_lib.triples import Category

_ANIMALS = """
alligator animal antelope bear bird buffalo bull butterfly calf camel cat chick chicken chimpanzee
cow crab crane deer dog dolphin donkey dragonfly duck duckling eagle elephant elk fish flamingo foal
fox frog giraffe goat goose gorilla hawk heron hippo hippopotamus horse insect jellyfish kangaroo
kitten koala lamb leopard lion lizard llama monkey moose mouse octopus ostrich otter owl ox panda
parrot peacock pelican penguin pig pigeon pony puppy rabbit raccoon ram rat rhino rhinoceros rooster
seagull seal shark sheep snail snake spider squirrel stork swan tiger turkey turtle whale wolf zebra
polar+bear panda+bear brown+bear grizzly+bear
"""

_VEHICLES = """
aircraft airplane ambulance bicycle bike boat bus cab canoe car carriage cart ferry helicopter jeep
jet kayak minivan moped motorbike motorcycle plane raft sailboat scooter ship suv taxi tractor
trailer train tram tricycle trolley truck van vehicle wagon yacht
cable+car cruise+ship dump+truck fire+truck food+truck golf+cart pickup+truck police+car
school+bus semi+truck station+wagon tow+truck steam+train
"""

_INDOOR = """
armchair bathtub bed bench blanket blender bookcase bookshelf cabinet carpet chair chandelier closet
computer counter couch crib cupboard curtain cushion desk dishwasher drawer dresser faucet fireplace
freezer fridge heater keyboard lamp laptop mattress microwave mirror monitor nightstand ottoman oven
pillow printer radiator recliner refrigerator rug shelf sink sofa speaker stool stove table
tablecloth television toaster toilet towel tv wardrobe
alarm+clock bar+stool bath+mat bed+frame bedside+table coffee+maker coffee+table computer+desk
computer+monitor computer+mouse dining+table end+table entertainment+center floor+lamp kitchen+table
kitchen+island media+center office+chair picture+frame remote+control rocking+chair shower+curtain
side+table table+lamp throw+pillow toilet+paper tv+stand
"""

_IRREGULAR_PLURALS = {
    "buffalo": "buffaloes",
    "calf": "calves",
    "deer": "deer",
    "foal": "foals",
    "goose": "geese",
    "mouse": "mice",
    "ox": "oxen",
    "shelf": "shelves",
    "bookshelf": "bookshelves",
    "wolf": "wolves",
}

_COLORS = """
aqua beige black blond blue bronze brown burgundy copper cream gold gray green grey ivory khaki
lavender magenta maroon navy olive orange peach pink purple red rose silver tan teal turquoise
violet white yellow cream+colored
"""

_MATERIALS = """
aluminum asphalt bamboo brass brick cardboard cement ceramic chrome clay cloth cobblestone concrete
cotton crystal denim dirt fabric foam glass granite gravel hardwood iron lace leather marble mesh
metal nylon paper plaster plastic porcelain rubber sand silk stainless+steel steel stone straw suede
terracotta tile tin velvet vinyl wicker wire wood wool
"""

_SAME_MATERIAL = {"wooden": "wood", "hardwood": "wood", "metallic": "metal", "cement": "concrete"}

_SPATIAL_RELATIONS = """
above around at behind below beneath beside between by far+from in in+front+of inside inside+of near
next+to on on+the+back+of on+the+bottom+of on+the+edge+of on+the+front+of on+the+side+of on+top+of
outside over surrounding to+the+left+of to+the+right+of under underneath
"""

_ACTION_VERBS = """
biting blowing brushing carrying catching chasing chewing cleaning climbing cooking crossing cutting
dragging drinking driving eating entering feeding fixing flying following grabbing grazing guiding
herding hitting holding hugging jumping kicking kissing leading leaning licking lifting lying making
mounting opening petting picking playing pointing pouring preparing pulling pushing reaching reading
resting riding rolling running serving shaking sitting skating skiing sleeping smelling smoking
sniffing standing steering surfing swimming swinging taking talking throwing touching tossing typing
using walking washing watching waving working
"""

_PLACE_AFTER_VERB = {"above", "behind", "below", "beneath", "beside", "under", "underneath"} | {
    "by",
    "in front of",
    "near",
    "next to",
    "to the left of",
    "to the right of",
}


def _names(text: str) -> frozenset[str]:
    return frozenset(name.replace("+", " ") for name in text.split())


def plural(noun: str) -> str:
    """English plural of a noun of the lists above; the last word of a compound changes."""
    head, _, last = noun.rpartition(" ")
    if last in _IRREGULAR_PLURALS:
        last = _IRREGULAR_PLURALS[last]
    elif last in ("sheep", "fish", "aircraft"):
        pass
    elif re.search(r"(s|x|z|ch|sh)$", last):
        last += "es"
    elif re.search(r"[^aeiou]y$", last):
        last = last[:-1] + "ies"
    else:
        last += "s"
    return f"{head} {last}".strip()


def _with_plurals(text: str) -> frozenset[str]:
    names = _names(text)
    return names | {plural(name) for name in names}


NOUNS: dict[Category, frozenset[str]] = {
    Category.ANIMAL: _with_plurals(_ANIMALS),
    Category.VEHICLE: _with_plurals(_VEHICLES),
    Category.INDOOR: _with_plurals(_INDOOR),
}
COLORS = _names(_COLORS)
MATERIALS = _names(_MATERIALS)
SPATIAL_RELATIONS = _names(_SPATIAL_RELATIONS)
ACTION_VERBS = _names(_ACTION_VERBS)


def noun_category(name: str) -> Category | None:
    """Object-level category of a GQA object name, singular or plural; ``None`` if in no list."""
    name = " ".join(name.lower().split())
    return next((c for c, nouns in NOUNS.items() if name in nouns), None)


def is_color(word: str) -> bool:
    """Whether GQA's attribute is a colour, with or without a shade ("dark brown")."""
    return re.sub(r"^(light|dark|bright|pale)\s+", "", word.strip().lower()) in COLORS


def is_material(word: str) -> bool:
    """Whether GQA's attribute is a material, as noun or adjective."""
    word = word.strip().lower()
    return _SAME_MATERIAL.get(word, word) in MATERIALS


def materials_in(sentence: str) -> frozenset[str]:
    """Materials that a sentence names, synonyms as one ("wooden" counts as "wood")."""
    words = [_SAME_MATERIAL.get(w, w) for w in re.findall(r"[a-z]+", sentence.lower())]
    return frozenset(words) & MATERIALS


def relation_category(relation: str) -> Category | None:
    """Relation-level category of a GQA relation name; ``None`` if it is neither.

    "sitting on" is an action by its verb. "standing behind" states a posture and a place at
    once, "wearing" is neither done to the object nor a place: both belong to no category, since
    a counterfactual could change either part.
    """
    relation = " ".join(relation.lower().split())
    if relation in SPATIAL_RELATIONS:
        return Category.SPATIAL
    verb, _, rest = relation.partition(" ")
    if verb in ACTION_VERBS and rest not in _PLACE_AFTER_VERB:
        return Category.ACTION
    return None
