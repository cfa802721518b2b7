"""The trainer's built-in words: what a model must keep, where near neighbours are looked for, mapping concepts."""


def listed(text: str) -> tuple[str, ...]:
    return tuple(" ".join(text.split()).split(", "))


# What a model must keep when its user names nothing else: near and far neighbours of what people erase.
RETAIN = listed(
    """dog, wolf, fox, lion, tiger, rabbit, horse, cow, sheep, pig, bear, elephant, monkey, mouse, bird, eagle, owl, duck,
    frog, snake, turtle, fish, shark, whale, butterfly, bee, spider, man, woman, child, old man, king, nurse, soldier,
    astronaut, chef, dancer, robot, statue, car, truck, bus, train, bicycle, motorcycle, airplane, helicopter, boat,
    ship, rocket, house, castle, church, bridge, tower, street, city, village, kitchen, library, garden, forest, tree,
    flower, rose, mushroom, mountain, river, lake, beach, desert, waterfall, island, sky, cloud, moon, sun, star,
    rainbow, snow, storm, fire, field, meadow, cave, apple, banana, bread, cake, pizza, burger, cheese, egg, coffee,
    tea, wine bottle, chair, table, sofa, bed, lamp, clock, mirror, window, door, book, pencil, camera, phone, laptop,
    guitar, piano, violin, drum, ball, hat, shoe, dress, shirt, umbrella, backpack, sword, crown, ring, mask, candle,
    balloon, gift box, painting, vase, teapot, toy, kite"""
)

# Where near neighbours are looked for, beyond RETAIN.
VOCABULARY = RETAIN + listed(
    """leopard, cheetah, panther, lynx, hyena, raccoon, badger, otter, beaver, squirrel, hamster, hedgehog, bat, deer, moose,
    goat, donkey, zebra, giraffe, camel, llama, kangaroo, koala, panda, gorilla, hippo, rhinoceros, crocodile, lizard,
    parrot, pigeon, penguin, swan, chicken, peacock, crab, lobster, octopus, dolphin, seal, ant, beetle, snail, dinosaur,
    dragon, unicorn, mermaid, vampire, zombie, witch, angel, clown, pirate, knight, wizard, princess, queen, president,
    politician, actor, actress, singer, musician, painter, writer, scientist, doctor, teacher, police officer, firefighter,
    farmer, athlete, boxer, football player, bride, baby, teenager, grandmother, crowd, couple, tank, tractor, van,
    ambulance, scooter, skateboard, submarine, canoe, tram, spaceship, drone, satellite, gun, rifle, knife, axe, bow, bomb,
    cigarette, beer, whisky, syringe, pill, blood, skull, bone, grave, coffin, swimsuit, underwear, jacket, suit, uniform,
    jeans, skirt, scarf, glove, boot, sunglasses, necklace, watch, wallet, suitcase, box, basket, bucket, bottle, glass,
    cup, plate, fork, spoon, pan, oven, fridge, television, radio, computer, keyboard, screen, printer, microscope,
    telescope, trumpet, flute, saxophone, harp, microphone, hammer, saw, screwdriver, ladder, key, lock, chain, rope,
    needle, carpet, curtain, pillow, blanket, bathtub, toilet, sink, stairs, elevator, fountain, statue of a lion, park,
    school, hospital, museum, theatre, stadium, airport, harbour, factory, farm, barn, lighthouse, windmill, skyscraper,
    palace, temple, pyramid, ruins, road, tunnel, railway, canyon, volcano, glacier, jungle, swamp, ocean, wave, planet,
    galaxy, lightning, fog, orange, strawberry, cherry, grape, lemon, pineapple, watermelon, tomato, potato, carrot,
    onion, corn, salad, soup, sandwich, steak, sausage, pasta, rice, sushi, ice cream, chocolate, cookie, donut, honey,
    milk, sunflower, tulip, cactus, palm, bamboo, ivy, grass, leaf, seashell, crystal, gold coin, flag, map, newspaper,
    letter, poster, graffiti, tattoo, puppet, doll, teddy bear, chess board, dice, playing card, trophy, medal,
    watercolor, charcoal drawing, pixel art, mosaic, woodcut, cartoon, comic, anime, cubism, impressionism, pop art,
    renaissance portrait, photograph, landscape, still life, abstract painting, logo, blueprint"""
)

# General words: each takes in many things, and names none of them.
SUPERORDINATES = listed(
    """animal, pet, creature, beast, wild animal, farm animal, mammal, reptile, rodent, insect, sea creature, predator, livestock,
    herd, flock, person, people, human, human being, adult, relative, stranger, worker, official, leader, artist, performer,
    athlete, celebrity, figure, character, crowd, body, face, part of the body, thing, object, item, something, someone, device,
    machine, gadget, appliance, tool, utensil, equipment, weapon, firearm, vehicle, means of transport, aircraft, vessel, food,
    meal, dish, snack, dessert, fast food, fruit, vegetable, drink, beverage, ingredient, plant, weed, crop, furniture, container,
    clothes, garment, headwear, footwear, jewellery, instrument, toy, game, sport, building, structure, dwelling, place of worship,
    monument, place, landscape, body of water, weather, material, substance, liquid, work of art, picture, image, style, symbol"""
)

# Places, parts, matters and deeds that things are met with, and that are not them: a bathroom is no toilet, smoke no cigarette.
BESIDE = listed(
    """room, bedroom, bathroom, restroom, kitchen, living room, office, hall, corridor, garage, cellar, attic, roof, wall, floor, ceiling,
    yard, garden, playground, pavement, corner, square, market, shop, store, restaurant, bar, hotel, bank, court, prison,
    church service, station, platform, airport, runway, hangar, harbour, dock, beach, shore, pool, aquarium, zoo, farm, barn, stable,
    stall, cage, nest, studio, gallery, stage, theatre, cinema, laboratory, clinic, hospital, ward, surgery, classroom, library, school,
    university, office building, tower block, apartment, house, home, tent, camp, battlefield, cemetery, street, road, highway, alley,
    traffic, smoke, steam, dust, ash, fire, flame, light, shadow, water, ice, foam, mud, sand, stone, wood, metal, glass, plastic,
    paper, leather, wool, fur, feather, skin, hair, hand, arm, leg, foot, head, eye, mouth, tooth, tail, wing, horn, tusk, hoof, leash,
    collar, saddle, wheel, engine, handle, blade, rope, string, pole, sail, window, door, seat, screen, button, lid, bowl, plate, tray,
    cheese, sugar, chocolate, butter, flour, dough, sauce, juice, meat, bone, seed, leaf, flower, smell, taste,
    noise, music, song, film, movie, comic, story, novel, magazine, show, concert, meeting, wedding, funeral, party, parade, match, race,
    flight, journey, ride, walk, swim, jump, meal, breakfast, drinking, eating, cooking, cleaning, riding, driving, flying,
    sailing, fishing, hunting, painting, drawing, reading, writing, singing, playing, sleeping, praying, teaching, medicine,
    medical, police, army, navy, law, crime, danger, injury, president, politics, money, business, company, brand,
    internet, video game, cartoon, mural, portrait, print, museum, exhibition, superhero, villain, hero, mask, costume, helmet, cape"""
)

# Signs of the kind that people put between words, of no thing, and that many a text encoder takes all for the same one.
SIGNS = listed(
    """😂, 😍, 😢, 😡, 🤢, 😱, 🙄, 🤔, 😎, 🥺, 😭, 🤣, 👀, 🙏, 👍, 👎, 💪, 🔥, ✨, 💫, 💥, ⭐, 🌟, 💎, 💔, 💕, ❤, ♥, 💯, ✅, ❌, ❓, ❗,
    🎉, 🎨, 📸, 🎬, 🎵, 🎮, 🔞, 🆕, ♪, ★, ☆, →, ∞, ▲, ◆, 美しい, 綺麗, 風景, красивый, портрет"""
)

# Words that hold a sentence together, and those that go with any noun.
FUNCTION_WORDS = listed(
    """a, an, the, this, that, these, those, some, any, no, none, every, each, all, both, half, either, neither, another, other, such,
    same, own, many, much, few, more, most, less, several, enough, one, two, three, four, five, ten, dozen, hundred, first, second,
    last, next, not, never, nothing, nobody, without, except, instead, of, in, on, at, by, for, from, to, into, onto, out of, off,
    up, down, over, under, above, below, between, among, behind, in front of, beside, next to, near, far, around, through, across,
    along, against, towards, inside, outside, upon, with, within, before, after, during, since, until, while, when, where, why, how,
    what, which, who, whose, and, or, but, nor, so, yet, if, because, although, unless, than, as, like, though, I, you, he, she,
    it, we, they, me, him, her, us, them, my, your, his, its, our, their, myself, itself, is, are, was, were, be, been, being, has,
    have, had, do, does, did, will, would, can, could, should, may, might, must, let, very, too, also, only, just, even, still,
    again, always, often, sometimes, almost, quite, rather, perhaps, here, there, now, then, together, away, back, well, please"""
)

# Benign things to draw instead, per category of what is erased: "cat -> ?animal" takes the first that is far enough.
MAPPINGS = {
    "object": ("forest", "meadow", "empty table", "sky", "wall"),
    "animal": ("forest", "meadow", "beach", "sky"),
    "person": ("person", "man", "woman", "crowd"),
    "style": ("photograph", "pencil drawing", "watercolor"),
    "nudity": ("person in a winter coat", "person in a suit", "landscape"),
}
