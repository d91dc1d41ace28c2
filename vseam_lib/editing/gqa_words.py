"""What may replace what in GQA's questions: plain lists, read as data.

:mod:`vseam_lib.sources.ontology` says which names belong to a category. These lists add which of
them make plausible, visibly different substitutes. Entries are separated by commas.
"""

from __future__ import annotations

COLORS = "red, orange, yellow, green, blue, purple, pink, brown, black, white, gray"
MORE_COLORS = "brunette"  # GQA's word for hair; not in the ontology's list
SHADES = "light, dark, bright, pale"

MATERIALS = "wood, metal, plastic, glass, concrete, brick, stone, leather, fabric, porcelain"
MATERIAL_ADJECTIVES = "wooden: wood, metallic: metal, woolen: wool, golden: gold"

MATERIAL_RIVALS = """
wood: metal, plastic, stone
metal: wood, plastic
plastic: wood, metal, glass
glass: plastic, metal, wood
concrete: brick, wood, stone
brick: concrete, wood, stone
stone: wood, brick, metal
leather: fabric, plastic
fabric: leather, plastic
porcelain: metal, plastic, glass
rubber: metal, leather
paper: plastic, glass, metal
sand: concrete, brick
denim: leather, wool
"""

# Nouns of one line replace each other. The first line of a kind serves those in no other line.
OBJECTS = {
    "animal": """
dog, cat, horse, cow, sheep, bird, elephant, giraffe, zebra, bear
dog, cat, rabbit
horse, cow, sheep, goat, pig, donkey
elephant, giraffe, zebra, lion, rhino
bear, wolf, deer, moose
duck, goose, seagull, pigeon, swan
dolphin, seal, shark
""",
    "vehicle": """
car, bus, truck, train, boat, bicycle, motorcycle, airplane
car, bus, truck, motorcycle
bicycle, motorcycle, scooter
airplane, helicopter
boat, ship, canoe
""",
    "indoor": """
chair, table, lamp, bed, couch, mirror, cabinet, shelf
chair, stool, table, couch
lamp, mirror, shelf
microwave, oven, refrigerator, dishwasher, toaster
pillow, blanket, towel
laptop, keyboard, television, printer, remote control, computer mouse
""",
    "clothing": """
hat, helmet, scarf, glove, umbrella, collar
bag, backpack, suitcase, shopping bag, trash bag, purse
""",
    "food": """
pizza, sandwich, hot dog, donut, cake, cookie
carrot, tomato, onion, potato, pepper, lemon, pumpkin, vegetable
""",
    "sport": "skateboard, surfboard, snowboard, kite, frisbee, ball, racket, bat, ski",
    "toy": "teddy bear, stuffed bear, doll, toy car, balloon",
    "street": """
traffic light, stop sign, street sign, parking sign, fire hydrant, flag, buoy
fence, wall, hedge, gate
bridge, building, barn, castle, clock tower, house
shopping cart, stroller, trash can
""",
    "opening": "window, door",
    "writing": """
word, letter, number
star, heart, flower
""",
    "kitchenware": """
plate, cup, bottle, bowl, pot, pan, mug, kettle, dish, can
knife, fork, spoon
coffee pot, mixer, kettle
""",
    "device": """
phone, cell phone, camera, clock, wii controller, fan
dvd player, camera, clock
piano, guitar, sword
""",
    "household": "planter, soap, candle, book, basket, vase, toy",
    "person": """
man, woman, boy, girl, child, baby
skateboarder, snowboarder, biker, pilot
students, children
""",
    "room": "bedroom, kitchen, bathroom",
}

PLURALS = "tomato: tomatoes, potato: potatoes, knife: knives, scarf: scarves, moose: moose"

# A relation and the one that excludes it. The places of GQA that have none are left out.
OPPOSITES = """
to the left of: to the right of
to the right of: to the left of
above: below
below: above
over: under
under: on top of
underneath: on top of
beneath: on top of
on: under
on top of: under
in front of: behind
behind: in front of
near: far from
next to: far from
by: far from
beside: far from
close to: far from
at: far from
around: far from
surrounding: far from
on the edge of: far from
far from: next to
in: next to
inside: outside
inside of: outside
outside: inside
on the back of: on the front of
on the front of: on the back of
on the bottom of: on top of
on the side of: on top of
covered by: next to
covered with: next to
covering: next to
"""

# Statements that say the same with the two objects exchanged.
CONVERSES = """
to the left of: to the right of
to the right of: to the left of
above: below
below: above
over: under
in front of: behind
behind: in front of
near: near
next to: next to
by: by
beside: beside
close to: close to
on: under
on top of: under
under: on top of
"""

MORE_VERBS = "wearing, looking, staring, waiting, kneeling, crouching, hanging, stepping, dropping"

# action: rivals; ``action | kind`` holds for objects of that kind (see OBJECTS).
ACTION_RIVALS = """
holding: throwing, dragging, reaching for
holding | animal: feeding, chasing, washing
holding | food: cutting, smelling, throwing
carrying: pushing, dragging, throwing
carrying | animal: feeding, chasing, washing
riding: carrying, pushing, holding
riding | animal: feeding, leading, washing
riding | vehicle: pushing, washing, fixing
eating: smelling, looking at
wearing: holding, carrying, throwing
driving: washing, pushing, fixing
touching: kicking, pointing at, looking at
using: cleaning, carrying, fixing
cutting: eating, carrying, smelling
watching: chasing, following, touching
feeding: washing, chasing, leading
pushing: carrying, washing, lifting
pulling: carrying, kicking, lifting
throwing: holding, kicking
tossing: holding, kicking
catching: kicking, carrying
kicking: holding, throwing
hitting: holding, carrying
swinging: holding, carrying, throwing
petting: feeding, washing, chasing
leading: riding, feeding, chasing
walking: carrying, feeding, washing
chasing: feeding, holding, washing
licking: sniffing, pushing
biting: sniffing, pushing
sniffing: eating, pushing
smelling: eating, throwing
drinking: pouring, carrying
reading: carrying, throwing
cooking: eating, carrying
preparing: eating, carrying
making: eating, carrying
brushing: feeding, pushing
cleaning: carrying, kicking
washing: carrying, kicking
opening: washing, kicking
hugging: pushing, chasing
kissing: pushing, chasing
mounting: feeding, leading
herding: feeding, riding
flying: holding, carrying
looking at: pointing at, reaching for
staring at: pointing at, reaching for
pointing at: touching, kicking
reaching for: looking at, kicking
looking into: reaching into, climbing into
holding onto: pushing, kicking
holding on to: pushing, kicking
eating from: drinking from
drinking from: eating from
talking on: typing on
talking to: looking at, hugging
playing with: looking at, reaching for
playing: carrying, throwing
leaning over: climbing over, jumping over
jumping over: climbing over, leaning over
climbing over: jumping over, leaning over
sitting at: standing at
standing at: sitting at
"""
ACTIONS_ON_ANYTHING = "holding, carrying, pushing, throwing"

# Verbs that go with any preposition, for phrases that are not listed: "sitting on the bench".
POSTURES = "standing, sitting, lying"
MOTIONS = "walking, running"
MOTION_PARTICLES = """
down, up, along, across, through, toward, towards, into, to, from, off, out of, past
"""
