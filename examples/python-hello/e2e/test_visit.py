import os
import unittest
from urllib.request import urlopen


class Visit(unittest.TestCase):
    def test_a_visitor_is_greeted(self):
        with urlopen(os.environ["BELAY_URL"] + "/?name=Cem", timeout=5) as answer:
            self.assertEqual(answer.read(), b"hello, Cem\n")


if __name__ == "__main__":
    unittest.main()
