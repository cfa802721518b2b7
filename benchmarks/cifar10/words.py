"""The words of the CIFAR-10 base: its classes, their synonyms and the caption templates."""

# In the data set's order. The first word is the class's name, and the only one that an eraser is trained with.
CLASSES = {
    "airplane": ("airplane", "aircraft", "plane", "jet"),
    "automobile": ("automobile", "car", "sedan", "coupe"),
    "bird": ("bird", "sparrow", "songbird", "fowl"),
    "cat": ("cat", "kitty", "feline", "kitten"),
    "deer": ("deer", "stag", "elk", "doe"),
    "dog": ("dog", "puppy", "hound", "canine"),
    "frog": ("frog", "toad", "amphibian", "bullfrog"),
    "horse": ("horse", "pony", "stallion", "mare"),
    "ship": ("ship", "boat", "vessel", "yacht"),
    "truck": ("truck", "lorry", "pickup", "hauler"),
}
MAPPING = "forest"  # drawn by data.foliage: something harmless for an erased class to become
CONCEPTS = {**CLASSES, MAPPING: (MAPPING,)}

TEMPLATES = (
    "a photo of the {}",
    "a picture of the {}",
    "an image of the {}",
    "the {}",
    "a small photograph of the {}",
    "a snapshot of the {}",
    "the {} in a photo",
    "a picture showing the {}",
)
TRAINING_TEMPLATES, HELD_OUT_TEMPLATES = TEMPLATES[:4], TEMPLATES[4:]  # of erasers; the base sees all
