"""Which of GQA's words say the same or cannot be told apart in a picture: plain lists.

A unit is never replaced by one that is like it. Entries are separated by commas.
"""

from __future__ import annotations

# All of a line are alike.
COLORS = """
gray, grey, silver
brown, tan, beige, khaki, bronze, copper, brunette, cream, cream colored
yellow, gold, blond, cream, cream colored
red, maroon, burgundy, rose
orange, peach, copper
pink, magenta, rose, peach
purple, violet, lavender, magenta
blue, navy, teal, turquoise, aqua
green, olive, teal, turquoise, aqua, khaki
white, ivory, cream, cream colored, beige
"""

PLACES = """
near, next to, by, beside, close to, at, around, surrounding
below, under, beneath, underneath
above, over, on top of, on, covering
in, inside, inside of
covered by, covered with, below, under
"""

# The first of a line is like each of the others; these may well differ from each other.
MATERIALS = """
metal, steel, stainless steel, iron, aluminum, chrome, brass, tin, copper, bronze, wire
wood, hardwood, bamboo, wicker, straw
wicker, straw, bamboo
concrete, cement, asphalt, plaster
stone, granite, marble, gravel, cobblestone, brick
fabric, cloth, cotton, denim, wool, silk, velvet, lace, nylon, leather, suede, mesh
leather, suede, vinyl
porcelain, ceramic, clay, terracotta, tile
glass, crystal
plastic, vinyl, nylon, foam, rubber
paper, cardboard
sand, dirt, gravel
"""

OBJECTS = """
dog, puppy
cat, kitten
horse, pony, foal
cow, bull, calf, ox, buffalo
sheep, lamb, ram
goat, ram
deer, elk, moose, antelope
rhino, rhinoceros
hippo, hippopotamus
bear, polar bear, panda bear, brown bear, grizzly bear, panda
bear, teddy bear, stuffed bear
teddy bear, stuffed bear
bird, chick, chicken, crane, duck, duckling, eagle, flamingo, goose, hawk, heron, ostrich, owl
bird, parrot, peacock, pelican, penguin, pigeon, rooster, seagull, stork, swan, turkey
duck, duckling
bike, bicycle, tricycle, motorbike, motorcycle
motorbike, motorcycle, moped, scooter
airplane, plane, aircraft, jet
car, cab, taxi, suv, jeep, minivan, van, police car, station wagon, golf cart
van, minivan, truck, bus
truck, dump truck, fire truck, food truck, pickup truck, semi truck, tow truck, trailer
bus, school bus, trolley
train, tram, trolley, steam train, cable car
boat, canoe, kayak, raft, sailboat, yacht, ferry, ship, cruise ship
car, train, cable car
chair, armchair, recliner, rocking chair, office chair
couch, sofa
chair, stool, bar stool
table, coffee table, dining table, end table, side table, kitchen table, bedside table, desk
desk, computer desk
nightstand, bedside table, dresser, side table, table, end table
lamp, floor lamp, table lamp, chandelier
bed, bed frame, crib, mattress
cabinet, cupboard, closet, wardrobe, dresser
shelf, bookshelf, bookcase
refrigerator, fridge, freezer
oven, stove, microwave
pillow, cushion, throw pillow
blanket, throw pillow
computer, laptop, monitor, computer monitor, keyboard
tv, television, monitor, computer monitor
rug, carpet, bath mat
towel, tablecloth
entertainment center, media center, tv stand
computer mouse, mouse
hat, helmet
bag, backpack, purse, shopping bag, trash bag, suitcase
sandwich, hot dog
vegetable, carrot, tomato, onion, potato, pepper, pumpkin
skateboard, surfboard, snowboard
stop sign, street sign, parking sign
building, barn, castle, house, clock tower
word, letter
plate, dish, bowl
cup, mug
pot, pan, coffee pot, kettle
phone, cell phone
vase, planter
man, boy, skateboarder, snowboarder, biker, pilot
woman, girl
child, boy, girl, baby
children, students
"""

ACTIONS = """
holding, carrying, grabbing, lifting, taking, picking, using, reading
throwing, tossing, dropping
looking, watching, staring
eating, chewing, biting
smelling, sniffing
riding, sitting, driving, steering, mounting
riding, walking, running
lying, resting, sleeping
leading, guiding, walking, herding
hitting, swinging
cooking, preparing, making
touching, petting, brushing
cleaning, washing, brushing
chasing, following, herding
jumping, climbing, mounting
pulling, dragging
"""
