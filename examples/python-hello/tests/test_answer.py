import unittest

from hello import answer


class Answer(unittest.TestCase):
    def test_greets_the_world(self):
        self.assertEqual(answer("/"), (200, "hello, world\n"))

    def test_greets_by_name(self):
        self.assertEqual(answer("/?name=Ana"), (200, "hello, Ana\n"))

    def test_answers_its_probe(self):
        self.assertEqual(answer("/healthz")[0], 200)

    def test_knows_what_it_does_not_know(self):
        self.assertEqual(answer("/nowhere")[0], 404)


if __name__ == "__main__":
    unittest.main()
