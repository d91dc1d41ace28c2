"""What exists in the embedded world: classes, colours, materials, actions, places."""

from __future__ import annotations

ANIMALS = ("dog", "cat", "horse", "cow", "bird", "sheep")
VEHICLES = ("car", "bus", "truck", "boat", "bicycle")
INDOOR = ("chair", "sofa", "table", "lamp", "bed")
PEOPLE = ("man", "woman")
GROUPS = {"animal": ANIMALS, "vehicle": VEHICLES, "indoor": INDOOR, "person": PEOPLE}
GROUP_OF = {name: group for group, names in GROUPS.items() for name in names}
CLASSES = ANIMALS + VEHICLES + INDOOR + PEOPLE

COLORS = {
    "red": (205, 50, 45),
    "green": (50, 150, 60),
    "blue": (50, 85, 200),
    "yellow": (230, 200, 55),
    "white": (235, 235, 230),
    "black": (45, 45, 50),
    "brown": (130, 85, 50),
}
MATERIALS = ("wood", "metal", "fabric", "plastic")
PLACES = ("grass", "street", "room", "water")

ACTIONS = ("riding", "holding", "pushing", "feeding")
ACTIONS_ON = {
    "horse": ("riding", "feeding", "pushing"),
    "cow": ("riding", "feeding", "pushing"),
    "sheep": ("riding", "feeding", "holding"),
    "dog": ("holding", "feeding", "pushing"),
    "cat": ("holding", "feeding", "pushing"),
    "bird": ("holding", "feeding"),
    "bicycle": ("riding", "pushing", "holding"),
    "chair": ("holding", "pushing"),
    "table": ("holding", "pushing"),
    "lamp": ("holding", "pushing"),
}
RELATIONS = ("to the left of", "to the right of", "above", "below")
OPPOSITE = {
    "to the left of": "to the right of",
    "to the right of": "to the left of",
    "above": "below",
    "below": "above",
}

# Natural co-occurrence of the training scenes. Scenes that are analysed or used to
# measure accuracy are drawn without it.
USUAL_PLACE = {"animal": "grass", "vehicle": "street", "indoor": "room"}
USUAL_COLORS = {
    "dog": ("brown", "black"), "cat": ("black", "white"), "horse": ("brown", "black"),
    "cow": ("white", "black"), "bird": ("blue", "red"), "sheep": ("white", "black"),
    "car": ("red", "black"), "bus": ("yellow", "red"), "truck": ("white", "blue"),
    "boat": ("white", "blue"), "bicycle": ("red", "green"), "chair": ("brown", "white"),
    "sofa": ("red", "brown"), "table": ("brown", "white"), "lamp": ("yellow", "white"),
    "bed": ("blue", "white"), "man": ("blue", "black"), "woman": ("red", "yellow"),
}  # fmt: skip
USUAL_MATERIAL = {
    "chair": "wood", "sofa": "fabric", "table": "wood", "lamp": "metal", "bed": "fabric",
}  # fmt: skip
