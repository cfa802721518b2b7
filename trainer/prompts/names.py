"""Names of people, of works and of places, as they stand in prompts: alone, one behind the other, without a sentence."""

from .words import listed

PEOPLE = listed(
    """Julius Caesar, Cleopatra, Hannibal, Alexander the Great, Genghis Khan, Charlemagne, Joan of Arc, Marco Polo, Christopher Columbus,
    Ferdinand Magellan, Elizabeth I, Louis XIV, Peter the Great, Catherine the Great, Frederick the Great, Napoleon Bonaparte,
    Simon Bolivar, George Washington, Benjamin Franklin, Abraham Lincoln, Queen Victoria, Otto von Bismarck, Mahatma Gandhi,
    Winston Churchill, Franklin Roosevelt, Charles de Gaulle, Golda Meir, Nelson Mandela, Indira Gandhi, Fidel Castro, Che
    Guevara, Mao Zedong, Konrad Adenauer, Rosa Parks, Malcolm X, John F. Kennedy, Lyndon Johnson, Jimmy Carter, Willy Brandt,
    Desmond Tutu, Kofi Annan, Eva Peron, Haile Selassie, Kwame Nkrumah, Sun Yat-sen, Ho Chi Minh, Aristotle, Plato, Socrates,
    Confucius, Archimedes, Galileo Galilei, Johannes Kepler, Charles Darwin, Marie Curie, Louis Pasteur, Gregor Mendel, Ada
    Lovelace, Alan Turing, Niels Bohr, Max Planck, Werner Heisenberg, Richard Feynman, Carl Sagan, Jane Goodall, Rachel Carson,
    Sigmund Freud, Karl Marx, Friedrich Nietzsche, Immanuel Kant, Hannah Arendt, Simone de Beauvoir, Homer, Dante Alighieri,
    William Shakespeare, Miguel de Cervantes, Johann Wolfgang von Goethe, Jane Austen, Charles Dickens, Victor Hugo, Leo Tolstoy,
    Fyodor Dostoevsky, Emily Dickinson, Franz Kafka, Virginia Woolf, James Joyce, Agatha Christie, Pablo Neruda, Toni Morrison,
    Gabriel Garcia Marquez, Johann Sebastian Bach, Wolfgang Amadeus Mozart, Ludwig van Beethoven, Frederic Chopin, Clara Schumann,
    Giuseppe Verdi, Richard Wagner, Louis Armstrong, Ella Fitzgerald, Edith Piaf, Maria Callas, Miles Davis, Bob Dylan, John
    Lennon, Paul McCartney, Jimi Hendrix, Aretha Franklin, David Bowie, Freddie Mercury, Kurt Cobain, Whitney Houston, Charlie
    Chaplin, Buster Keaton, Greta Garbo, Humphrey Bogart, Ingrid Bergman, Alfred Hitchcock, Orson Welles, Akira Kurosawa, Federico
    Fellini, Sophia Loren, Marlon Brando, Robert De Niro, Meryl Streep, Tom Hanks, Denis Diderot, Bruce Lee, Pele, Muhammad Ali,
    Jesse Owens, Serena Williams, Roger Federer, Michael Jordan, Usain Bolt, Lionel Barrymore, Steffi Graf, Neil Armstrong, Yuri
    Gagarin, Amelia Earhart, Valentina Tereshkova, Thomas Edison, Henry Ford, Steve Jobs, Coco Chanel, Anne Frank, Oprah Winfrey,
    Tina Turner"""
)

ARTISTS = listed(
    """Leonardo da Vinci, Michelangelo, Raphael, Sandro Botticelli, Albrecht Durer, Hieronymus Bosch, Pieter Bruegel, El Greco, Diego
    Velazquez, Artemisia Gentileschi, Giorgio de Chirico, William Blake, William Morris, John Constable, Caspar David Friedrich,
    Eugene Delacroix, Gustave Courbet, Berthe Morisot, Mary Cassatt, Camille Corot, Henri Rousseau, Georges Seurat, Paul Signac,
    Edvard Munch, Egon Schiele, Oskar Kokoschka, Wassily Kandinsky, Paul Klee, Piet Mondrian, Kazimir Malevich, Marc Chagall,
    Amedeo Modigliani, Otto Dix, George Grosz, Kathe Kollwitz, Edward Hopper, Grant Wood, Georgia O'Keeffe, Frida Kahlo, Diego
    Rivera, Joan Mitchell, Jackson Pollock, Mark Rothko, Francis Bacon, Lucian Freud, Louise Bourgeois, Yayoi Kusama, Gerhard
    Richter, Anselm Kiefer, Ansel Adams, Dorothea Lange, Diane Arbus, Henri Cartier-Bresson, Gustave Dore, Arthur Rackham, Beatrix
    Potter, Ivan Bilibin, John Tenniel, Winsor McCay, Moebius, Herge, Tove Jansson, Norman Rockwell, Syd Mead, Frank Frazetta,
    Ivan Aivazovsky, Ilya Repin, Isaac Levitan, John Singer Sargent, James Whistler, Winslow Homer, Albert Bierstadt, Thomas Cole,
    Odilon Redon, Gustave Moreau, Antoni Gaudi, Le Corbusier, Zaha Hadid, Frank Lloyd Wright"""
)

CHARACTERS = listed(
    """Sherlock Holmes, Doctor Watson, Robin Hood, King Arthur, Merlin, Don Quixote, Sancho Panza, Hamlet, Romeo, Juliet, Macbeth,
    Robinson Crusoe, Gulliver, Captain Ahab, Count Dracula, Frankenstein, Peter Pan, Captain Hook, Alice in Wonderland, Mad
    Hatter, Pinocchio, Cinderella, Snow White, Rapunzel, Little Red Riding Hood, Rumpelstiltskin, Baba Yaga, Anansi, Sun Wukong,
    Zeus, Athena, Poseidon, Hercules, Medusa, Odysseus, Achilles, Icarus, Thor, Odin, Loki, Freya, Anubis, Isis, Ganesha,
    Quetzalcoatl, Tarzan, Zorro, Gandalf, Frodo, Aragorn, Gollum, Luke Skywalker, Princess Leia, Indiana Jones, James Bond, Wonder
    Woman, Tintin, Asterix, Obelix, Popeye, Charlie Brown, Snoopy, Homer Simpson, Shrek, Moomin, Pippi Longstocking"""
)

PLACES = listed(
    """Paris, London, Rome, Athens, Istanbul, Cairo, Nairobi, Cape Town, Lagos, Marrakesh, Jerusalem, Baghdad, Mumbai, Kolkata,
    Kathmandu, Bangkok, Hanoi, Beijing, Shanghai, Kyoto, Tokyo, Seoul, Sydney, Auckland, Honolulu, San Francisco, Chicago, New
    Orleans, Havana, Mexico City, Lima, Buenos Aires, Rio de Janeiro, Reykjavik, Lisbon, Prague, Vienna, Budapest, Venice, Eiffel
    Tower, Colosseum, Taj Mahal, Machu Picchu, Mount Everest, Mount Fuji, Grand Canyon, Niagara Falls, Sahara, Amazon, Siberia,
    Antarctica, Himalaya, Atlantis, Texas, California, Brazil, Nigeria, Ethiopia, India, Russia, Germany, Italy, France, Spain,
    Norway, Poland, Ukraine, Iran"""
)

NAMES = (PEOPLE, ARTISTS, CHARACTERS, PLACES)
