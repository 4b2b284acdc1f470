/** `/docs`: the HTTP API to read and to try out, drawn by Swagger UI from `openapi.json`. */

import SwaggerUI from "swagger-ui-dist/swagger-ui-es-bundle.js";

import { followScheme } from "../theme.ts";

// The name that Swagger UI's style sheet has for it.
followScheme((scheme) => document.documentElement.classList.toggle("dark-mode", scheme === "dark"));

SwaggerUI({
  dom_id: "#api",
  url: "openapi.json",
  deepLinking: true,
  // Else it sends the description to a checker on another host.
  validatorUrl: null,
  // Nor may an address of this page lead to another description.
  queryConfigEnabled: false,
});
